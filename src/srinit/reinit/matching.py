"""Sets the output statistics of a re-drawn unit to those of the trained one.

Inside the unit every drawn convolution and linear layer is rescaled and shifted so that each of
its output channels has the trained mean and variance on reference inputs, first to last, as in
LSUV (https://arxiv.org/abs/1511.06422); then the output of the unit is, once more, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from srinit import modules
from srinit.arguments import copied
from srinit.errors import DataError, ReinitError
from srinit.padding import Places
from srinit.reinit.plain import plain_name

# C channels, N everything else

WEIGHTS = ("weight", "weight_orig")  # the second under a mask of torch.nn.utils.prune
LIVING = 0.01  # share of values that lie off a channel's lowest, from which on it is not dead
MOST = 1e3  # factor on a channel, at most


@dataclass(frozen=True)
class Call:
    """The arguments of one call of a module, as they are when this is made.

    Raises:
        ModelError: One of them cannot be copied, so that the call cannot be made again.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    places: Places | None = None  # which are real; None: all

    def __post_init__(self) -> None:
        args, kwargs = copied((tuple(self.args), dict(self.kwargs)))
        object.__setattr__(self, "args", args)
        object.__setattr__(self, "kwargs", kwargs)

    @classmethod
    def of(cls, inputs: object) -> Call:
        """Return `inputs` as arguments: a dict as keywords, a tuple or list as positions."""
        if isinstance(inputs, Call):
            return inputs
        if isinstance(inputs, Mapping):
            return cls(kwargs=inputs)
        if isinstance(inputs, tuple | list):
            return cls(args=tuple(inputs))
        return cls(args=(inputs,))

    def __call__(self, module: Callable[..., Any]) -> Any:
        """Return `module` called with them; it may change them and is given copies."""
        args, kwargs = copied((self.args, dict(self.kwargs)))
        return module(*args, **kwargs)


class Matcher:
    """Matches a unit, over and over, to the statistics it has when this is made."""

    def __init__(self, unit: nn.Module, leaves: Sequence[nn.Module], reference: Call) -> None:
        self._unit = unit
        self._reference = reference
        kinds = (_ConvNd, nn.Linear)
        self._leaves = [leaf for leaf in leaves if isinstance(leaf, kinds) and _is_plain(leaf)]
        self._bias = {id(leaf): leaf.bias is not None for leaf in self._leaves}
        self._wanted: dict[int, tuple[Tensor, Tensor]] = {}
        self._scale: Tensor | None = None
        self._shift: Tensor | None = None
        self._channel = _channel_dim(unit, leaves)
        self._learn()
        unit.register_forward_hook(self._correct)

    def _learn(self) -> None:
        handles = [leaf.register_forward_hook(self._note) for leaf in self._leaves]
        try:
            output = _stream(self._run())
            self._output = _moments(self._real(output, self._channel), self._channel)
        finally:
            _remove(handles)

    def _run(self) -> Any:
        with modules.eval_mode(self._unit), torch.no_grad():
            return self._reference(self._unit)

    def _note(self, leaf: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and id(leaf) not in self._wanted:
            channel = _leaf_dim(leaf)
            self._wanted[id(leaf)] = _moments(self._real(output, channel), channel)

    def _real(self, output: Tensor, channel: int) -> Tensor:
        """Return an output without its padded places; channels stay where they are counted from."""
        places = self._reference.places
        if places is None or channel != -1:
            return output
        try:
            real = places.among(tuple(output.shape))
        except DataError as error:
            raise ReinitError(f"scheme 'matched' cannot leave out padding: {error}") from error
        return output if real is None else output.reshape(*real.shape, -1)[real]

    def reset(self) -> None:
        """Forget the last match: biases that it added, and the correction of the output."""
        self._scale = self._shift = None
        for leaf in self._leaves:
            if not self._bias[id(leaf)]:
                leaf.bias = None

    def match(self) -> None:
        """Match the weights that the unit holds now."""
        done: set[int] = set()

        def fit(leaf: nn.Module, inputs: Any, output: Any) -> Tensor | None:
            if id(leaf) in done or id(leaf) not in self._wanted:
                return None
            done.add(id(leaf))
            real = self._real(output, _leaf_dim(leaf))
            return _fit_leaf(leaf, output, real, *self._wanted[id(leaf)])

        handles = [leaf.register_forward_hook(fit) for leaf in self._leaves]
        try:
            output = _stream(self._run())
        finally:
            _remove(handles)
        real = self._real(output, self._channel)
        self._scale, self._shift = _affine(real, self._channel, *self._output)

    def _correct(self, unit: nn.Module, inputs: object, output: object) -> Any:
        if self._scale is None or self._shift is None:
            return None
        first = _stream(output)
        shape = [1] * first.ndim
        shape[self._channel] = -1
        scale, shift = self._scale.view(shape), self._shift.view(shape)
        fixed = (first * scale + shift).to(first.dtype)
        return modules.tree_map(lambda tensor: fixed if tensor is first else tensor, output)


def _fit_leaf(leaf: nn.Module, output: Tensor, real: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Rescale and shift a layer in place; return what it would have put out."""
    assert isinstance(leaf, _ConvNd | nn.Linear)
    channel = _leaf_dim(leaf)
    scale_C, shift_C = _affine(real, channel, mean, std)
    weight = leaf.get_parameter(next(key for key in WEIGHTS if key in leaf._parameters)).detach()
    out_dim = 1 if isinstance(leaf, _ConvNd) and leaf.transposed else 0
    if out_dim == 1 and leaf.groups > 1:  # type: ignore[operator]
        return output  # channels of a grouped transposed convolution do not lie in one dimension
    shape = [1] * weight.ndim
    shape[out_dim] = -1
    weight.mul_(scale_C.view(shape).to(weight.dtype))
    if leaf.bias is None:
        leaf.bias = nn.Parameter(shift_C.to(weight.dtype), requires_grad=False)
    else:
        leaf.bias.detach().mul_(scale_C.to(weight.dtype)).add_(shift_C.to(weight.dtype))
    view = [1] * output.ndim
    view[channel] = -1
    return (output * scale_C.view(view) + shift_C.view(view)).to(output.dtype)


def _is_plain(leaf: nn.Module) -> bool:
    """Return whether a layer can be rescaled: by a weight that is a parameter, masked or not."""
    known = any(plain_name(leaf, key) == "weight" for key in leaf._parameters)
    return known and "bias" in leaf._parameters


def _moments(output: Tensor, channel: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of every channel, in 32 bits."""
    dims = [dim for dim in range(output.ndim) if dim != channel % output.ndim]
    variance_C, mean_C = torch.var_mean(output.detach().float(), dims, correction=0)
    return mean_C, variance_C.sqrt()


def _affine(output: Tensor, channel: int, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale and shift that give `output` the wanted moments; dead channels only shift.

    A channel that a ReLU holds at zero but for a few values has next to no spread, and a factor
    that made up for it would blow up what it says of other examples.
    """
    found_C, spread_C = _moments(output, channel)
    alive_C = spread_C > 1e-6 * (1 + found_C.abs())
    alive_C &= spread_C * MOST >= std
    alive_C &= _share_off_lowest(output, channel) >= LIVING
    scale_C = torch.where(alive_C, std / spread_C.clamp_min(1e-12), 1.0)
    return scale_C, mean - found_C * scale_C


def _share_off_lowest(output: Tensor, channel: int) -> Tensor:
    flat_CN = output.detach().movedim(channel, 0).flatten(1)
    return (flat_CN != flat_CN.amin(1, keepdim=True)).float().mean(1)


def _leaf_dim(leaf: nn.Module) -> int:
    return -1 if isinstance(leaf, nn.Linear) else -1 - _spatial(leaf)


def _spatial(leaf: nn.Module) -> int:
    return len(leaf.kernel_size) if isinstance(leaf, _ConvNd) else 0


def _channel_dim(unit: nn.Module, leaves: Sequence[nn.Module]) -> int:
    """Return the channel dimension of the unit's output: that of its last drawn layer."""
    for leaf in reversed(leaves):
        if isinstance(leaf, _ConvNd | nn.Linear):
            return _leaf_dim(leaf)
    return -1


def _stream(output: object) -> Tensor:
    found = next(modules.tensors(output), None)
    if found is None or found.ndim < 2 or not found.is_floating_point():
        raise ReinitError(
            "scheme 'matched' needs a unit whose first output is a tensor of at least two "
            f"dimensions; found {type(output).__name__}. Choose scheme='keep_norm'."
        )
    return found


def _remove(handles: Sequence[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()
