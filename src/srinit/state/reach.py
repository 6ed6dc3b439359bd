"""Everything that a network reaches without its weights: attributes, containers, closures, hooks.

`copy.deepcopy` copies modules, containers and bound methods, and hands functions on as they are:
what those refer to is the caller's, also in the copy. So functions are read, too: their closures,
defaults, and the global names that their code loads.
"""

from __future__ import annotations

import dis
import functools
import types
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

HOOK_TABLES = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
TORCH_OWN = frozenset(vars(nn.Module())) | {"stands_for"}
ATOMS = (
    *(str, int, float, complex, bool, bytes, type(None), type, types.ModuleType),
    *(torch.dtype, torch.device, torch.Size, types.BuiltinFunctionType),
)
LIBRARIES = ("torch.", "numpy.", "builtins", "collections", "typing", "functools", "threading")
CONTAINERS = (dict, list, tuple, set, frozenset, deque, Mapping)
MOST_ENTRIES, MOST_DEPTH, MOST_OBJECTS = 2000, 6, 50_000  # beyond it is data, not structure
GLOBAL_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})


@dataclass(frozen=True, slots=True)
class Held:
    """One object, and the way to it: the module it hangs on, then attributes and names."""

    module: str
    path: tuple[str, ...]
    value: Any

    def __str__(self) -> str:
        owner = repr(self.module) if self.module else "the network"
        first, *rest = self.path
        return f"{first} of {owner}" + "".join(f", {step}" for step in rest)


def held_by(model: nn.Module, *, hooks: bool = True) -> Iterator[Held]:
    """Yield once everything that hangs on the modules of a network, and is no plain value.

    Registered submodules, parameters and buffers are left out, and what belongs to them; modules
    that are reached in another way are yielded, with all that hangs on them.

    Args:
        model: The network.
        hooks: Whether its hooks are part of it.

    Example:
        >>> net, other = nn.ReLU(), nn.Linear(1, 1)
        >>> vars(net)["others"] = [other]
        >>> [str(held) for held in held_by(net) if held.value is other]
        ["attribute 'others' of the network, entry 0"]
    """
    walk = _Walk()
    tree = list(model.named_modules())
    walk.seen.update(id(module) for _, module in tree)
    for name, module in tree:
        yield from walk.module(name, module, (), hooks=hooks)


class _Walk:
    """Remembers what was visited; objects are kept alive, so that their ids stay theirs."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.alive: list[Any] = []

    def module(
        self, name: str, module: nn.Module, path: tuple[str, ...], *, hooks: bool
    ) -> Iterator[Held]:
        for key, value in vars(module).items():
            if key not in TORCH_OWN:
                yield from self.object(name, (*path, f"attribute {key!r}"), value)
        for table in HOOK_TABLES if hooks else ():
            for hook in (vars(module).get(table) or {}).values():
                kind = table.strip("_").removesuffix("s").replace("_", " ")
                yield from self.object(name, (*path, f"{kind} {label(hook)}"), hook)

    def object(self, name: str, path: tuple[str, ...], value: object) -> Iterator[Held]:
        if isinstance(value, ATOMS) or id(value) in self.seen:
            return
        if isinstance(value, tuple) and all(isinstance(part, ATOMS) for part in value):
            return
        if len(path) > MOST_DEPTH or len(self.seen) > MOST_OBJECTS:
            return
        self.seen.add(id(value))
        self.alive.append(value)
        yield Held(name, path, value)
        if isinstance(value, nn.Module):
            for inner, module in value.named_modules():
                self.seen.add(id(module))
                below = (*path, f"module {inner!r}") if inner else path
                yield from self.module(name, module, below, hooks=True)
            return
        for step, part in _parts(value):
            yield from self.object(name, (*path, step) if step else path, part)


def _parts(value: object) -> Iterable[tuple[str, Any]]:
    """Return what an object refers to, each with how to say it."""
    if isinstance(value, Tensor):
        return ()
    if isinstance(value, CONTAINERS):
        if len(value) > MOST_ENTRIES:
            return ()
        entries = value.items() if isinstance(value, Mapping) else enumerate(value)
        return [(f"entry {key!r}"[:60], part) for key, part in list(entries)]
    if isinstance(value, functools.partial):
        given = [*value.args, *value.keywords.values()]
        return [("function", value.func), *(("argument", part) for part in given)]
    if isinstance(value, types.MethodType):
        return [("", value.__func__), (f"its method {value.__name__!r}", value.__self__)]
    if isinstance(value, types.FunctionType):
        return _of_function(value)
    if isinstance(value, weakref.ReferenceType):
        return [("weak reference", value())]
    if isinstance(value, types.CellType):
        return [("", value.cell_contents)] if _is_filled(value) else ()
    if str(type(value).__module__).startswith(LIBRARIES):
        return ()
    return [(f".{key}", part) for key, part in getattr(value, "__dict__", {}).items()]


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    if str(function.__module__).startswith("torch."):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield f"closure variable {name!r}", cell
    for part in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield "default argument", part
    yield from ((f".{key}", part) for key, part in function.__dict__.items())
    for name in loaded_globals(function.__code__):
        part = function.__globals__.get(name)
        if isinstance(part, nn.Module | Tensor | list | dict | set | weakref.ReferenceType):
            yield f"global variable {name!r}", part


@functools.lru_cache(maxsize=512)
def loaded_globals(code: types.CodeType) -> tuple[str, ...]:
    """Return the global names that a function's code loads, its inner functions' too."""
    names = {
        str(step.argval): None for step in dis.get_instructions(code) if step.opname in GLOBAL_LOADS
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= dict.fromkeys(loaded_globals(constant))
    return tuple(names)


def label(function: object) -> str:
    """Return what a function or callable object is called, for messages."""
    inner = function.func if isinstance(function, functools.partial) else function
    return repr(getattr(inner, "__qualname__", None) or type(inner).__name__)


def _is_filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
