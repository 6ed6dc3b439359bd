"""The linear steps behind a map, so that a change of its output can be carried to where it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Replay = Callable[[Tensor], Tensor]


def base(func: object) -> str:
    """Return "add" for the operation aten.add_.Tensor."""
    return str(func).split(".")[1].rstrip("_")


def linear_part(
    kind: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], current: Tensor | None
) -> Replay | None:
    """Return what a recorded step does to a change of its input; None where it is no linear step.

    Args:
        kind: "view", "norm" (batch normalization by fixed statistics), "scale" or "shift".
        func: The operation.
        args: Its arguments.
        kwargs: Its keywords.
        current: The argument that is followed.
    """
    place = next((i for i, value in enumerate(args) if _is(value, current)), None)
    if place is None:
        return None
    if kind == "norm":
        return _norm(args) if place == 0 and True not in args[5:6] else None
    if kind == "scale":
        other = args[1 - place]
        if base(func) == "mul":
            return lambda x: x * other
        return (lambda x: x / other) if place == 0 else None
    if kind == "shift":
        sign = _sign(base(func), place, kwargs)
        return lambda x: x if sign == 1.0 else sign * x
    if base(func) in ("view", "_unsafe_view", "reshape"):
        shape = args[1]
        return lambda x: x.reshape(shape)

    def view(x: Tensor) -> Tensor:
        made = func(*args[:place], x, *args[place + 1 :], **kwargs)
        found: Tensor = made[0] if isinstance(made, tuple | list) else made
        return found

    return view


def _is(value: object, current: Tensor | None) -> bool:
    """Tell whether an argument is a tensor, or a detached form of it."""
    if value is current or not isinstance(value, Tensor) or current is None:
        return value is current
    same = value.shape == current.shape and value.stride() == current.stride()
    return same and value.data_ptr() == current.data_ptr()


def _norm(args: tuple[Any, ...]) -> Replay:
    weight, variance, eps = args[1], args[4], args[-1]
    factor = (variance.detach() + eps).rsqrt()
    if weight is not None:
        factor = factor * weight.detach()
    return lambda x: x * factor.reshape(1, -1, *([1] * (x.ndim - 2)))


def _sign(name: str, place: int, kwargs: dict[str, Any]) -> float:
    alpha = float(kwargs.get("alpha", 1))
    if name == "sub":
        return 1.0 if place == 0 else -alpha
    if name == "rsub":
        return -alpha if place == 0 else 1.0
    return 1.0 if place == 0 else alpha


def carried(steps: list[Replay], change: Tensor) -> Tensor:
    """Return a change of a map's output as it arrives at the end of its steps."""
    for step in steps:
        change = step(change)
    return change


def adjoint(steps: list[Replay], shape: torch.Size, difference: Tensor) -> Tensor:
    """Return the transposed steps applied to a difference at their end."""
    if not steps:
        return difference
    with torch.enable_grad():
        x = torch.zeros(shape, dtype=difference.dtype, device=difference.device).requires_grad_()
        (found,) = torch.autograd.grad(carried(steps, x), x, difference)
    return found


def squared_scale(steps: list[Replay], shape: torch.Size, like: Tensor) -> Tensor | None:
    """Return the square of what the steps multiply each channel by; None where they do more.

    Channels are the second dimension of maps with positions, else the last.

    Args:
        steps: Behind the map.
        shape: Of the map's output.
        like: A tensor at the end of the steps.
    """
    if not steps:
        channels = shape[1] if len(shape) > 2 else shape[-1]
        return torch.ones(channels, dtype=torch.float64, device=like.device)
    noise = torch.Generator().manual_seed(0)
    probe = torch.randn(shape, generator=noise).to(like.device, torch.float32)
    there = carried(steps, probe)
    if there.shape != like.shape:
        return None
    back = adjoint(steps, shape, there)
    axis = 1 if len(shape) > 2 else len(shape) - 1
    others = [d for d in range(len(shape)) if d != axis]
    scale = (back * probe).double().sum(others) / probe.double().pow(2).sum(others)
    wide = scale.reshape([-1 if d == axis else 1 for d in range(len(shape))]).float()
    off = (back - wide * probe).abs().max()
    return scale if float(off) <= 1e-3 * float(back.abs().max()) + 1e-30 else None
