"""Whether a copy is one: it refers to nothing of the original, and computes the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from srinit import modules
from srinit.errors import ModelError
from srinit.rng import generator, isolated_rng
from srinit.state import Held, Preserved, held_by

NOISE = 0.1  # of the inputs' own spread
REMEDY = (
    "A function in a copy refers to what it referred to in the original. Write it as a method of "
    "the module, or give it what it needs by functools.partial or as a registered submodule."
)


def check_references(model: nn.Module, twin: nn.Module) -> None:
    """Raise `ModelError` where functions or weak references in a copy lead to the original."""
    names = {id(module): name for name, module in model.named_modules()}
    tensors = {id(t) for t in (*model.parameters(), *model.buffers())}
    tensors -= {id(t) for t in (*twin.parameters(), *twin.buffers())}
    for held in held_by(twin):
        value = held.value
        if isinstance(value, nn.Module):
            value = next(iter(value.modules()))  # behind a weak proxy, the module itself
        if id(value) in names:
            name = names[id(value)]
            what = f"the original's {name!r}" if name else "the original itself"
        elif id(value) in tensors:
            what = f"a tensor of the original ({tuple(value.shape)})"
        else:
            continue
        raise ModelError(
            f"{type(model).__name__} cannot be copied: in a copy, {held} would still be "
            f"{what} ({type(value).__name__}). {REMEDY}"
        )


def check_behavior(
    model: nn.Module, twin: nn.Module, inputs: object, left: Collection[str]
) -> None:
    """Raise `ModelError` unless a copy answers as the original does, on its own.

    Args:
        model: The original.
        twin: The copy.
        inputs: What both take; other values are tried first, so that nothing that an earlier
            forward left can pass for an answer.
        left: Hooks that were not copied, for the message.
    """
    for batch in (fresh(inputs), inputs):
        found, error = _watched(model, twin, batch)
        try:
            wanted = _run(model, batch)
        except Exception:  # the network does not take such values
            continue
        if error is not None:
            raise ModelError(
                f"{type(model).__name__} cannot be copied: its copy does not run "
                f"({type(error).__name__}: {error}){_suspects(twin, left)}."
            ) from error
        if not _alike(found, wanted) and _alike(_run(model, batch), wanted):
            raise ModelError(
                f"{type(model).__name__} cannot be copied: its copy answers differently"
                f"{_suspects(twin, left)}. {REMEDY}"
            )
        return


def fresh(inputs: Any) -> object:
    """Return inputs of the same form with other values: examples in reverse, floats with noise."""
    size, noise = modules.batch_size(inputs), generator("fresh")

    def other(tensor: Tensor) -> Tensor:
        if tensor.ndim and tensor.shape[0] == size and not tensor.is_sparse:
            tensor = tensor.flip(0)
        if not tensor.is_floating_point() or tensor.is_meta or tensor.numel() < 2:
            return tensor
        draw = torch.randn(tensor.shape, generator=noise).to(tensor.device, tensor.dtype)
        spread = tensor.float().std().nan_to_num(0.0, 0.0, 0.0).to(tensor.dtype)
        return tensor + NOISE * spread * draw

    with torch.no_grad():
        return modules.tree_map(other, inputs)


def _run(model: nn.Module, inputs: Any) -> Any:
    with modules.untouched(model, hooks=True), isolated_rng(0), torch.no_grad():
        return list(modules.tensors(modules.call(model, inputs)))


def _watched(model: nn.Module, twin: nn.Module, inputs: Any) -> tuple[Any, Exception | None]:
    """Return the copy's answer, or what it raised; the original is watched meanwhile."""
    names = {
        id(tensor): name for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    for tensor in (*twin.parameters(), *twin.buffers()):
        names.pop(id(tensor), None)
    before = Preserved(model)
    reads = _Reads(set(names))
    found: object = None
    error: Exception | None = None
    changed: list[Held] = []
    try:
        # What both hold is put back by either: so look before the copy's own state is put back.
        with modules.untouched(twin, hooks=True), isolated_rng(0), torch.no_grad():
            try:
                with reads:
                    found = list(modules.tensors(modules.call(twin, inputs)))
            finally:
                changed = before.restore()
    except Exception as raised:  # reported by the caller, if the original runs
        error = raised
    kind = type(model).__name__
    if changed:
        raise ModelError(
            f"{kind} cannot be copied: a forward of its copy changes {changed[0]} in the "
            f"original. {REMEDY}"
        )
    if reads.seen:
        raise ModelError(
            f"{kind} cannot be copied: a forward of its copy reads {names[reads.seen[0]]!r} of the "
            f"original{_suspects(twin, ())}. {REMEDY}"
        )
    return found, error


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which of some tensors operations are given."""

    def __init__(self, ids: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ids = ids
        self.seen: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        for tensor in modules.tensors([*args, *kwargs.values()]):
            if id(tensor) in self.ids:
                self.seen.append(id(tensor))
        return func(*args, **kwargs)


def _alike(found: list[Tensor], wanted: list[Tensor]) -> bool:
    if [t.shape for t in found] != [t.shape for t in wanted]:
        return False
    return all(map(_close, found, wanted))


def _close(found: Tensor, wanted: Tensor) -> bool:
    if found.is_meta or torch.equal(found, wanted):
        return True
    exact = wanted.dtype in (torch.float32, torch.float64)
    if not wanted.is_floating_point():
        return False
    scale = float(wanted.abs().max().nan_to_num(1.0, 1.0, 1.0))
    tolerance = (1e-4 if exact else 2e-2) * scale + 1e-7
    return torch.allclose(found.double(), wanted.double(), atol=tolerance, equal_nan=True)


def _suspects(twin: nn.Module, left: Collection[str]) -> str:
    """Return what may be the reason, as the end of a sentence."""
    if left:
        return f"; these hooks were taken for observers and left out: {', '.join(left)}"
    own = [str(held) for held in _functions(twin)]
    return f"; look at {' and '.join(own[:3])}" if own else "; something outside of it is read"


def _functions(twin: nn.Module) -> Iterator[Held]:
    for held in held_by(twin):
        if len(held.path) == 1 and callable(held.value) and not isinstance(held.value, nn.Module):
            yield held
