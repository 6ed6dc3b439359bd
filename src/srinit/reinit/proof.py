"""Proof that a draw reached what the forward pass reads: tensor by tensor, on a few examples.

A layer may compute with something else than its parameters: a weight that a hook made from them
once, a fused copy, a cache. Drawing the parameters then changes nothing, and a drop of 0 says
nothing of the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from srinit.reinit.plain import forgetting
from srinit.reinit.rules import is_norm
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
        if not changed:
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
        def hook(_: nn.Module, args: object, output: object) -> None:
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

    def hook(_: nn.Module, args: object, output: object) -> None:
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


def _kept(output: object) -> list[Tensor]:
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


def constants(unit: nn.Module, run: Run) -> int:
    """Return the size of the largest tensor that a unit reads beside parameters and arguments.

    Where it reads none that could hold what a parameter once was, a parameter that it does not
    read has no effect on these examples, as that of an expert to which nothing went.
    """
    reads = _Reads(unit)

    def begin(_: nn.Module, args: object, kwargs: object) -> None:
        reads.begin((args, kwargs))

    def end(_: nn.Module, args: object, output: object) -> None:
        reads.end()

    handles = [
        unit.register_forward_pre_hook(begin, with_kwargs=True),
        unit.register_forward_hook(end, always_call=True),
    ]
    try:
        _once(unit, run)
    finally:
        for handle in handles:
            handle.remove()
    return reads.largest


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what is read that was not made from parameters and arguments."""

    def __init__(self, unit: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0
        self._alive: list[Tensor] = []  # so that no storage's place is used twice
        self._known: set[int] = set()
        self._depth = 0
        statistics = [b for module in unit.modules() if is_norm(module) for b in module.buffers()]
        self._know([*unit.parameters(), *statistics])

    def _know(self, tree: object) -> None:
        for tensor in pytree.tree_leaves(tree):
            if isinstance(tensor, Tensor) and tensor.layout is torch.strided:
                self._alive.append(tensor)
                self._known.add(tensor.untyped_storage().data_ptr())

    def begin(self, arguments: object) -> None:
        self._know(arguments)
        self._depth += 1
        if self._depth == 1:
            self.__enter__()  # type: ignore[no-untyped-call]

    def end(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        for tensor in pytree.tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor) and self._is_foreign(tensor):
                self.largest = max(self.largest, tensor.numel())
        result = func(*args, **(kwargs or {}))
        self._know(result)
        return result

    def _is_foreign(self, tensor: Tensor) -> bool:
        indices = tensor.dtype in (torch.bool, torch.int32, torch.int64)
        if indices or tensor.layout is not torch.strided:
            return False
        return tensor.untyped_storage().data_ptr() not in self._known


def named(names: Sequence[str]) -> str:
    """Return names for a message, the first few of them.

    Example:
        >>> named(["a", "b", "c", "d"])
        "'a', 'b', 'c' and 1 more"
    """
    shown = ", ".join(map(repr, names[:SHOWN]))
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
