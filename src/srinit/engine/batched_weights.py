"""Many draws of one unit at once: it runs once for a batch, and each layer knows whose weights.

What a draw costs besides its arithmetic decides how few examples may share one, and so how many
evaluations a scan takes. Here it costs the random numbers and one small product a layer.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.engine.copies import is_close
from srinit.engine.folding import Pair, bypass
from srinit.engine.fusing import grouped
from srinit.engine.groups import Group, Layout, groups_of
from srinit.engine.layers import Part, Stack, can_stack, room_for
from srinit.reinit import Call, Reinitializer

MOST_BYTES = {"cpu": 32 << 20, "cuda": 512 << 20}  # weights of draws that are made together
KINDS = (nn.Conv2d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class BatchedWeights:
    """A unit whose drawn layers take other weights for every group of a batch.

    Args:
        reinitializer: Draws the unit in the number format of the caller's model.
        pairs: Layers of the unit, and the normalization that each one feeds, to be folded.
        convert: Brings a copy of the unit to the number format and layout of the scan's own copy.

    Raises:
        ValueError: Something else than plain layers would be drawn.
    """

    def __init__(
        self,
        reinitializer: Reinitializer,
        pairs: Sequence[Pair],
        convert: Callable[[nn.Module], nn.Module],
    ) -> None:
        self._reinitializer = reinitializer
        names = reinitializer.drawn_layers
        if not names or not all(
            _is_plain(reinitializer.module.get_submodule(name)) for name in names
        ):
            raise ValueError("what is drawn is not plain convolutions and linear layers")
        reinitializer.draw(0)  # normalization that goes back to its start is there from now on
        body = copy.deepcopy(reinitializer.module)
        norms = {one: other for one, other in pairs if one in names}
        for norm in norms.values():
            bypass(body.get_submodule(norm))
        self._body = convert(body)
        self._layers = grouped(self._body, names)
        self._affine = {
            name: _affine(reinitializer.module.get_submodule(norm)) for name, norm in norms.items()
        }
        weights = [reinitializer.module.get_parameter(f"{name}.weight") for name in names]
        self.bytes = 4 * sum(weight.numel() for weight in weights)

    @property
    def fits(self) -> bool:
        """Return whether the weights of some groups may be in memory at the same time."""
        return self._most > 1

    @property
    def _most(self) -> int:
        """How many groups' weights are made together at most."""
        device = modules.device_of(self._body)
        return MOST_BYTES.get(device.type, MOST_BYTES["cpu"]) // max(self.bytes, 1)

    def replacement(
        self, groups: Sequence[Group], size: int, seed: Callable[[int], int], layout: Layout
    ) -> Callable[..., Any]:
        """Return a replacement forward: each group of a batch of `size` meets its own draw.

        Args:
            groups: They cover the batch, in order.
            size: Examples in the batch.
            seed: Of the draw of a number.
            layout: Of the unit; for batches whose draws do not fit into memory together.
        """
        if len(groups) <= self._most:
            return self._together(groups, size, seed)
        most = self._most
        chunks = [groups[first : first + most] for first in range(0, len(groups), most)]
        spans = [
            Group(draw=index, start=chunk[0].start, stop=chunk[-1].stop)
            for index, chunk in enumerate(chunks)
        ]

        def drawn(index: int) -> Callable[..., Any]:
            start, stop = spans[index].start, spans[index].stop
            some = [
                Group(draw=group.draw, start=group.start - start, stop=group.stop - start)
                for group in chunks[index]
            ]
            return partial(self._together(some, stop - start, seed), None)

        return layout.grouped(spans, size, drawn)  # type: ignore[arg-type]

    def _together(
        self, groups: Sequence[Group], size: int, seed: Callable[[int], int]
    ) -> Callable[..., Any]:
        parts = self._at_once(groups, seed) or self._one_by_one(groups, seed)

        def replacement(forward: object, *args: object, **kwargs: object) -> object:
            for name, layer in self._layers.items():
                layer.parts, layer.size = parts[name], size
            try:
                return self._body(*args, **kwargs)
            finally:
                for layer in self._layers.values():
                    layer.parts = ()

        return replacement

    def _at_once(
        self, groups: Sequence[Group], seed: Callable[[int], int]
    ) -> dict[str, Sequence[Part | Stack]]:
        """Return each layer's weights for all groups; empty where they cannot be drawn at once."""
        drawn = self._reinitializer.draw_many([group.draw for group in groups], seed) or {}
        parts: dict[str, Sequence[Part | Stack]] = {}
        for name, layer in self._layers.items():
            weight = drawn.pop(f"{name}.weight".strip("."), None)
            if weight is None:
                return {}
            kept: Tensor | None = self._reinitializer.module.get_submodule(name).bias  # type: ignore[assignment]
            bias = drawn.pop(f"{name}.bias".strip("."), kept)
            factor = torch.ones((), device=weight.device)
            if name in self._affine:
                scale, shift = self._affine[name]
                factor = scale.to(weight.device).view(1, -1, *[1] * (weight.ndim - 2))
                bias = shift if bias is None else bias.to(shift.device) * scale + shift
            if bias is not None:
                bias = bias.to(layer.inner.weight, copy=True)
            parts[name] = list(_parts(layer.inner, groups, weight, factor, bias))
        return {} if drawn else parts

    def _one_by_one(
        self, groups: Sequence[Group], seed: Callable[[int], int]
    ) -> dict[str, Sequence[Part | Stack]]:
        parts: dict[str, list[Part | Stack]] = {name: [] for name in self._layers}
        for group in groups:
            module = self._reinitializer.draw(seed(group.draw))
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

    def agrees(self, layout: Layout, call: Call, size: int) -> bool:
        """Return whether draws side by side give what each gives alone, in a call of the unit."""
        groups = groups_of(0, size, 1)
        with torch.inference_mode():
            alone = layout.grouped(groups, size, self._alone)  # type: ignore[arg-type]
            together = self.replacement(groups, size, int, layout)
            wanted, found = call(partial(alone, None)), call(partial(together, None))
        if not isinstance(wanted, Tensor) or not isinstance(found, Tensor):
            return False
        return is_close(found, wanted)

    def _alone(self, number: int) -> Callable[..., Any]:
        module = self._reinitializer.draw(number)
        for name, values in (self._reinitializer.draw_many([number], int) or {}).items():
            if values.is_cuda:  # whose noise is not that of a draw alone
                module.get_parameter(name).detach().copy_(values[0])

        def run(*args: object, **kwargs: object) -> object:
            dtype = next(self._body.parameters()).dtype
            return _cast(module(*_cast(args, None), **_cast(kwargs, None)), dtype)

        return run


def _parts(
    inner: nn.Conv2d | nn.Linear,
    groups: Sequence[Group],
    values: Tensor,
    factor: Tensor,
    bias: Tensor | None,
) -> Iterator[Part | Stack]:
    """Yield a layer's drawn weights, times `factor`: together where it gains from that.

    Args:
        inner: The layer.
        groups: The groups.
        values: Weights of each (G, O, C, ...).
        factor: Of each output channel.
        bias: (O,), the same for all groups, or (G, O).
    """
    first = 0
    for size, equal in itertools.groupby(groups, lambda group: group.stop - group.start):
        some = list(equal)
        stop = first + len(some)
        drawn = values[first:stop]
        own = bias[first:stop] if bias is not None and bias.ndim > 1 else bias
        first = stop
        if can_stack(inner, size):
            on_cpu = drawn.device.type == "cpu"  # oneDNN's grouped convolution wants it plain
            room = (
                torch.empty(drawn.shape, dtype=inner.weight.dtype)
                if on_cpu
                else room_for(inner.weight, len(some))
            )
            yield Stack(
                start=some[0].start,
                stop=some[-1].stop,
                groups=len(some),
                weight=torch.mul(drawn, factor, out=room),
                bias=own,
            )
            continue
        fresh = room_for(inner.weight, len(some)).copy_(drawn.mul_(factor))
        biases = [own] * len(some) if own is None or own.ndim < 2 else own.unbind()
        for group, weight, shift in zip(some, fresh.unbind(), biases, strict=True):
            yield Part(start=group.start, stop=group.stop, weight=weight, bias=shift)


def _cast(tree: object, dtype: torch.dtype | None) -> Any:
    """Return floating tensors in `dtype`; None: in 32 bits."""

    def fit(tensor: Tensor) -> Tensor:
        return tensor.to(dtype or torch.float32) if tensor.is_floating_point() else tensor

    return modules.tree_map(fit, tree)


def _is_plain(layer: nn.Module) -> bool:
    """Return whether a layer computes with its own parameters, and no hook changes them."""
    return type(layer) in KINDS and "weight" in layer._parameters and not layer._forward_pre_hooks


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
