"""Proof that a draw reached what the forward pass reads: tensor by tensor, on a few examples.

A layer may compute with something else than its parameters: a weight that a hook made from them
once, a fused copy, a cache. Drawing the parameters then changes nothing, and a drop of 0 says
nothing of the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from srinit.reinit.plain import forgetting
from srinit.rng import isolated_rng

SHOWN = 3  # names in a message

Run = Callable[[nn.Module], Any]  # calls a unit with what the network calls it with


class _Seen(Exception):  # noqa: N818 - no error: what was asked for is known
    """The output that was asked for is there; the rest of the unit need not run."""


def unread(unit: nn.Module, drawn: Mapping[str, Tensor], run: Run) -> list[str]:
    """Return the parameters without whose trained values everything stays the same.

    Each one alone gets its drawn values, or, where rounding may hide them, larger ones. The output
    of the module that owns it has to change, or that of one around it, up to the unit: gates at
    zero hide nothing so.

    Args:
        unit: A private copy with the trained values; it is the same afterwards.
        drawn: Drawn values of parameters of the unit, by name.
        run: Calls a unit; always with the same arguments.
    """
    outputs = _outputs(unit, run)
    left = []
    for name, values in drawn.items():
        owner, _, _ = name.rpartition(".")
        around = [place for place in _outwards(owner) if place in outputs]
        changed = False
        for tried in (values, _larger(values)):
            with _holding(unit, name, tried):
                changed = changed or any(
                    _changes(unit, place, outputs[place], run) for place in around
                )
        if not changed and not _is_spare(unit, owner, outputs):
            left.append(name)
    return left


def _larger(values: Tensor) -> Tensor:
    """Return values that are farther from any trained ones, of both signs."""
    signs = torch.ones(values.numel(), device=values.device)
    signs[::2] = -1
    return values + signs.view(values.shape).to(values.dtype) * (1 + 4 * values.abs().amax())


def _outwards(name: str) -> Iterator[str]:
    """Yield a module's name and the names of those around it, the unit itself ("") last."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield ""


def _outputs(unit: nn.Module, run: Run) -> dict[str, list[Tensor]]:
    """Return the first output of every module that is called."""
    outputs: dict[str, list[Tensor]] = {}

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, output: Any) -> None:
            if name not in outputs:
                outputs[name] = _kept(output)

        return hook

    handles = [
        module.register_forward_hook(note(name))
        for name, module in unit.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        _once(unit, run)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _changes(unit: nn.Module, place: str, before: list[Tensor], run: Run) -> bool:
    found: list[list[Tensor]] = []

    def hook(_: nn.Module, args: Any, output: Any) -> None:
        found.append(_kept(output))
        raise _Seen

    handle = unit.get_submodule(place).register_forward_hook(hook)
    try:
        _once(unit, run)
    except _Seen:
        pass
    finally:
        handle.remove()
    return not found or not _equal(before, found[0])


def _once(unit: nn.Module, run: Run) -> None:
    with torch.no_grad(), isolated_rng(0):
        run(unit)


def _kept(output: Any) -> list[Tensor]:
    return [leaf.clone() for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]


def _equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


@contextmanager
def _holding(unit: nn.Module, name: str, values: Tensor) -> Iterator[None]:
    """Let a parameter hold other values for a while, where it is: others may refer to it."""
    target = unit.get_parameter(name).detach()
    kept = target.clone()
    with forgetting(unit):
        target.copy_(values)
    try:
        yield
    finally:
        with forgetting(unit):
            target.copy_(kept)


def _is_spare(unit: nn.Module, owner: str, called: Container[str]) -> bool:
    """Return whether a module is one of several alike of which others were called: an expert."""
    for place in _outwards(owner):
        if not place or place in called:
            return False
        parent, _, last = place.rpartition(".")
        holder = unit.get_submodule(parent)
        if isinstance(holder, nn.ModuleList | nn.ModuleDict):
            kind = type(unit.get_submodule(place))
            beside = {key: child for key, child in holder.named_children() if key != last}
            if any(
                type(child) is kind and f"{parent}.{key}".lstrip(".") in called
                for key, child in beside.items()
            ):
                return True
    return False


def named(names: Sequence[str]) -> str:
    """Return names for a message, the first few of them.

    Example:
        >>> named(["a", "b", "c", "d"])
        "'a', 'b', 'c' and 1 more"
    """
    shown = ", ".join(map(repr, names[:SHOWN]))
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
