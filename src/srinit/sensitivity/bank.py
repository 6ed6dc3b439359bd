"""Many draws of one unit at once: it runs once for a batch, and each layer knows whose weights.

What a draw costs besides its arithmetic decides how few examples may share one, and so how many
evaluations a scan takes. Here it costs the random numbers and one small product a layer.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.reinit import Redraw
from srinit.sensitivity.draws import Group, Layout
from srinit.sensitivity.folding import Pair, bypass
from srinit.sensitivity.fusing import Part, Stack, can_stack, grouped
from srinit.sensitivity.working import is_close

MOST_BYTES = 32 << 20  # weights of all draws of a batch together
KINDS = (nn.Conv2d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Bank:
    """A unit whose drawn layers take other weights for every group of a batch.

    Args:
        redraw: Draws the unit in the number format of the caller's model.
        pairs: Layers of the unit, and the normalization that each one feeds, to be folded.
        convert: Brings a copy of the unit to the number format and layout of the scan's own copy.

    Raises:
        ValueError: Something else than plain layers would be drawn.
    """

    def __init__(
        self, redraw: Redraw, pairs: Sequence[Pair], convert: Callable[[nn.Module], nn.Module]
    ) -> None:
        self._redraw = redraw
        names = redraw.drawn_layers
        kinds = {type(redraw.module.get_submodule(name)) for name in names or ()}
        if not names or not kinds <= set(KINDS):
            raise ValueError("what is drawn is not plain convolutions and linear layers")
        redraw.draw(0)  # normalization that goes back to its start is there from now on
        body = copy.deepcopy(redraw.module)
        norms = {one: other for one, other in pairs if one in names}
        for norm in norms.values():
            bypass(body.get_submodule(norm))
        self._body = convert(body)
        self._layers = grouped(self._body, names)
        self._affine = {
            name: _affine(redraw.module.get_submodule(norm)) for name, norm in norms.items()
        }
        weights = [redraw.module.get_parameter(f"{name}.weight") for name in names]
        self.bytes = 4 * sum(weight.numel() for weight in weights)

    def fits(self, groups: Sequence[Group]) -> bool:
        """Return whether the weights of all groups may be in memory at the same time."""
        return self.bytes * len(groups) <= MOST_BYTES

    def stand(
        self, groups: Sequence[Group], size: int, seed: Callable[[int], int]
    ) -> Callable[..., Any]:
        """Return a stand-in that runs each group of a batch of `size` through its own draw."""
        seeds = [seed(group.draw) for group in groups]
        parts = self._at_once(groups, seeds) or self._one_by_one(groups, seeds)

        def stand(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            for name, layer in self._layers.items():
                layer.parts, layer.size = parts[name], size
            try:
                return self._body(*args, **kwargs)
            finally:
                for layer in self._layers.values():
                    layer.parts = ()

        return stand

    def _at_once(
        self, groups: Sequence[Group], seeds: Sequence[int]
    ) -> dict[str, Sequence[Part] | Stack]:
        """Return each layer's weights for all groups; empty where they are not plain normals."""
        drawn = self._redraw.draw_normals(seeds)
        if drawn is None or len(drawn) != len(self._layers):
            return {}
        sizes = [group.stop - group.start for group in groups]
        parts: dict[str, Sequence[Part] | Stack] = {}
        for name, layer in self._layers.items():
            values = drawn.get(f"{name}.weight".strip("."))
            if values is None:
                return {}
            bias: Tensor | None = self._redraw.module.get_submodule(name).bias  # type: ignore[assignment]
            factor = torch.ones(())
            if name in self._affine:
                scale, shift = self._affine[name]
                factor = scale.cpu().view(1, -1, *[1] * (values.ndim - 2))
                bias = shift if bias is None else bias * scale + shift
            inner = layer.inner
            if bias is not None:
                bias = bias.to(inner.weight.dtype, copy=True)
            if can_stack(inner, sizes):
                room = torch.empty(values.shape, dtype=inner.weight.dtype)
                parts[name] = Stack(
                    groups=len(groups),
                    weight=torch.mul(values, factor, out=room).flatten(0, 1),
                    bias=None if bias is None else bias.repeat(len(groups)),
                )
                continue
            fresh = _like(inner.weight, len(seeds)).copy_(values.mul_(factor))
            parts[name] = [
                Part(start=group.start, stop=group.stop, weight=weight, bias=bias)
                for group, weight in zip(groups, fresh.unbind(), strict=True)
            ]
        return parts

    def _one_by_one(
        self, groups: Sequence[Group], seeds: Sequence[int]
    ) -> dict[str, Sequence[Part] | Stack]:
        parts: dict[str, list[Part]] = {name: [] for name in self._layers}
        for group, seed in zip(groups, seeds, strict=True):
            module = self._redraw.draw(seed)
            for name, found in parts.items():
                weight, bias = self._weights(name, module.get_submodule(name))
                found.append(Part(start=group.start, stop=group.stop, weight=weight, bias=bias))
        return dict(parts)

    def _weights(self, name: str, drawn: Any) -> tuple[Tensor, Tensor | None]:
        """Return a drawn layer's weights, with what follows folded in, as the copy wants them."""
        inner = self._layers[name].inner
        weight, bias = drawn.weight, drawn.bias
        if name in self._affine:
            scale, shift = self._affine[name]
            weight = weight * scale.view(-1, *[1] * (weight.ndim - 1))
            bias = shift if bias is None else bias * scale + shift
        # a copy, as the next draw overwrites the layer
        fresh = torch.empty_like(inner.weight).copy_(weight)
        return fresh, None if bias is None else bias.to(fresh.dtype, copy=True)

    def agrees(self, layout: Layout, args: Any, kwargs: Any, size: int) -> bool:
        """Return whether two draws side by side give what each gives alone."""
        groups = [Group(draw=0, start=0, stop=2), Group(draw=1, start=2, stop=size)]
        with torch.inference_mode():
            alone = layout.grouped(groups, size, self._alone)  # type: ignore[arg-type]
            wanted = alone(None, *args, **kwargs)
            found = self.stand(groups, size, int)(None, *args, **kwargs)
        if not isinstance(wanted, Tensor) or not isinstance(found, Tensor):
            return False
        return is_close(found, wanted)

    def _alone(self, number: int) -> Callable[..., Any]:
        module = self._redraw.draw(number)

        def run(*args: Any, **kwargs: Any) -> Any:
            dtype = next(self._body.parameters()).dtype
            return _cast(module(*_cast(args, None), **_cast(kwargs, None)), dtype)

        return run


def _cast(tree: Any, dtype: torch.dtype | None) -> Any:
    """Return floating tensors in `dtype`; None: in 32 bits."""

    def fit(tensor: Tensor) -> Tensor:
        return tensor.to(dtype or torch.float32) if tensor.is_floating_point() else tensor

    return modules.tree_map(fit, tree)


def _like(weight: Tensor, count: int) -> Tensor:
    """Return room for `count` tensors like this one, each in its memory layout."""
    shape, strides = weight.shape, weight.stride()
    order = sorted(range(weight.ndim), key=lambda dim: -strides[dim])
    room = torch.empty(
        count, *(shape[dim] for dim in order), dtype=weight.dtype, device=weight.device
    )
    back = [0, *(1 + order.index(dim) for dim in range(weight.ndim))]
    return room.permute(back)


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return factor and summand of each channel of a batch normalization in evaluation mode."""
    assert isinstance(norm, NORMS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    if norm.bias is not None:
        shift = shift + norm.bias
    return scale.detach(), shift.detach()
