"""A network is the same after a forward as before: counters, lists, caches, generators."""

from __future__ import annotations

import random
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from srinit.errors import ModelError
from srinit.state.reach import Held, held_by

REGISTRIES = ("_parameters", "_buffers", "_modules")
CODE = (types.FunctionType, types.MethodType, partial)
P = ParamSpec("P")
T = TypeVar("T")
Undo = Callable[[], bool]  # puts one object back; returns whether it had changed


def check_initialized(model: nn.Module) -> None:
    """Raise `ModelError` where a network has lazy parts that saw no input yet."""
    lazy = [
        f"{name or 'the network'} ({type(module).__name__})"
        for name, module in model.named_modules()
        if _is_lazy(module)
    ]
    if lazy:
        raise ModelError(
            f"{type(model).__name__} is not initialized: {', '.join(lazy[:3])} "
            f"{'gets its' if len(lazy) == 1 else 'get their'} weights at the first forward. Call "
            "the network once on inputs of the right shape, load its weights, and go on with that."
        )


def is_uninitialized(model: nn.Module) -> bool:
    """Return whether a network has lazy parts that saw no input yet."""
    return any(map(_is_lazy, model.modules()))


def _is_lazy(module: nn.Module) -> bool:
    tensors: list[Any] = [*module._parameters.values(), *module._buffers.values()]
    return any(map(is_lazy, tensors))


@contextmanager
def preserved(model: nn.Module, *, hooks: bool = False) -> Iterator[None]:
    """Put back, at the end, what forwards of `model` change of it.

    Buffers and tensors among attributes get their values back; attributes, registered parts and
    hooks their objects; lists, dicts, sets and plain objects on them their entries, also those
    that only replaced forwards refer to; generators their state. Classes and global numbers are
    not the network's.

    Args:
        model: The network.
        hooks: Also put back what only hooks refer to, such as a list that they fill.

    Raises:
        ModelError: It has lazy parts that would get their weights.

    Example:
        >>> net = nn.BatchNorm1d(2)
        >>> with preserved(net):
        ...     _ = net(torch.ones(2, 2))
        >>> int(net.num_batches_tracked)
        0
    """
    check_initialized(model)
    before = Preserved(model, hooks=hooks)
    try:
        yield
    finally:
        before.restore()


def preserves(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function whose first argument is a network leave it, and its hooks, as they were."""

    @wraps(function)
    def kept(*args: P.args, **kwargs: P.kwargs) -> T:
        model: Any = args[0] if args else kwargs["model"]
        if not isinstance(model, nn.Module):  # the function says so in its own words
            return function(*args, **kwargs)
        with preserved(model, hooks=True):
            return function(*args, **kwargs)

    return kept


class Preserved:
    """The state of a network at one time, to look for changes and to go back to it."""

    def __init__(self, model: nn.Module, *, hooks: bool = True) -> None:
        self._modules: list[tuple[str, tuple[str, ...], _Body]] = []
        self._undo: list[tuple[Held, Undo]] = []
        seen: set[int] = set()
        for name, module in model.named_modules():
            self._modules.append((name, (), _Body(module, seen)))
        for held in held_by(model, hooks=hooks):
            if isinstance(held.value, nn.Module):
                for _, module in held.value.named_modules():
                    self._modules.append((held.module, held.path, _Body(module, seen)))
            elif not (isinstance(held.value, Tensor) and _again(held.value, seen)):
                undo = _undo_of(held.value)
                if undo is not None:
                    self._undo.append((held, undo))

    def restore(self) -> list[Held]:
        """Put everything back; return what had changed."""
        changed: list[Held] = []
        with torch.no_grad():
            for name, path, body in self._modules:
                for what in body.restore():
                    changed.append(Held(name, (*path, what), body.module))
            changed += [held for held, undo in self._undo if undo()]
        return changed


class _Body:
    """The attributes, registered parts, hooks and tensors of one module.

    Few objects are made: networks have many modules, most of which have nothing to remember.
    """

    __slots__ = ("module", "tables", "tensors", "values")

    def __init__(self, module: nn.Module, seen: set[int]) -> None:
        self.module = module
        self.values = dict(vars(module))
        self.tables = {k: dict(v) for k, v in self.values.items() if _is_table(k, v) and v}
        self.tensors: list[tuple[str, Undo]] = []
        for name, tensor in module._buffers.items():
            if tensor is not None and not _again(tensor, seen):
                self.tensors.append((f"buffer {name!r}", _values(tensor)))
        for name, tensor in module._parameters.items():
            if tensor is not None and not _again(tensor, seen):
                self.tensors.append((f"parameter {name!r}", _data(tensor)))

    def restore(self) -> list[str]:
        body, changed = vars(self.module), []
        now = dict(body)
        if _put_back(body, self.values):
            odd = [k for k in {**now, **self.values} if _unlike(now, self.values, k)]
            changed.append(f"attribute {odd[0]!r}")
        for key, value in self.values.items():
            filled = _is_table(key, value) and (value or key in self.tables)
            if filled and _put_back(value, self.tables.get(key, {})):
                changed.append(f"table {key!r}")
        return changed + [what for what, undo in self.tensors if undo()]


def _is_table(key: str, value: object) -> bool:
    return isinstance(value, dict) and (key in REGISTRIES or "hooks" in key)


def _unlike(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> bool:
    return key not in one or key not in other or one[key] is not other[key]


def _again(tensor: Tensor, seen: set[int]) -> bool:
    known = id(tensor) in seen
    seen.add(id(tensor))
    return known


def _undo_of(value: object) -> Undo | None:
    """Return what puts an object back that is no module; None: it cannot change, or is code."""
    if isinstance(value, Tensor):
        return _data(value) if isinstance(value, nn.Parameter) else _values(value)
    if isinstance(value, dict):
        return partial(_put_back, value, dict(value))
    if isinstance(value, list | deque | set):
        return _entries(value)
    if isinstance(value, types.CellType):
        return _cell(value)
    if isinstance(value, torch.Generator):
        return _state(value.get_state, value.set_state, torch.equal)
    if isinstance(value, random.Random):
        return _state(value.getstate, value.setstate)
    if isinstance(value, np.random.Generator | np.random.RandomState):
        return _bits(value)
    if isinstance(getattr(value, "__dict__", None), dict) and not isinstance(value, CODE):
        return partial(_put_back, vars(value), dict(vars(value)))
    return None


def _put_back(body: dict[Any, Any], before: Mapping[Any, Any]) -> bool:
    if body.keys() == before.keys() and all(body[k] is v for k, v in before.items()):
        return False
    body.clear()
    body.update(before)
    return True


def _entries(body: Any) -> Undo:
    before = list(body)

    def undo() -> bool:
        if len(body) == len(before) and all(a is b for a, b in zip(body, before, strict=True)):
            return False
        body.clear()
        (body.update if isinstance(body, set) else body.extend)(before)
        return True

    return undo


def _cell(cell: types.CellType) -> Undo:
    missing = object()

    def contents() -> Any:
        with suppress(ValueError):
            return cell.cell_contents
        return missing

    before = contents()

    def undo() -> bool:
        if contents() is before:
            return False
        if before is missing:
            del cell.cell_contents
        else:
            cell.cell_contents = before
        return True

    return undo


def _values(tensor: Tensor) -> Undo:
    data, before = tensor.data, tensor.detach().clone() if _has_values(tensor) else None

    def undo() -> bool:
        replaced = tensor.data.data_ptr() != data.data_ptr() if before is not None else False
        if replaced or tensor.shape != data.shape:
            tensor.data = data
        if before is None or torch.equal(tensor, before):
            return replaced
        tensor.data.copy_(before)
        return True

    return undo


def _data(parameter: Tensor) -> Undo:
    """Put back the memory of a parameter; its values are nobody's to write in a forward."""
    data, known = parameter.data, _has_values(parameter)

    def undo() -> bool:
        if not known or parameter.data_ptr() == data.data_ptr():
            return False
        parameter.data = data
        return True

    return undo


def _has_values(tensor: Tensor) -> bool:
    plain = type(tensor) in (Tensor, nn.Parameter, nn.Buffer)
    return plain and not tensor.is_meta and tensor.layout is torch.strided


def _state(get: Callable[[], Any], put: Callable[[Any], Any], same: Any = None) -> Undo:
    before = get()

    def undo() -> bool:
        now = get()
        if same(now, before) if same is not None else now == before:
            return False
        put(before)
        return True

    return undo


def _bits(generator: Any) -> Undo:
    bits = generator._bit_generator if hasattr(generator, "_bit_generator") else None
    bits = generator.bit_generator if bits is None else bits

    def put(state: Mapping[str, Any]) -> None:
        bits.state = state

    return _state(lambda: bits.state, put, lambda a, b: str(a) == str(b))
