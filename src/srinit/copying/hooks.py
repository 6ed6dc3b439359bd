"""Which hooks of a network compute, and which only look on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from srinit import modules
from srinit.rng import isolated_rng
from srinit.state.reach import label

FORWARD = ("_forward_pre_hooks", "_forward_hooks")
TABLES = (*FORWARD, "_backward_hooks", "_backward_pre_hooks")
FLAGS = (  # by the number of a hook: how it is called
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
)
MARKS = ("_output_capturing_hooks_installed",)  # Hugging Face: hooks that collect hidden states


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook of the forward pass, and where it hangs."""

    module: str
    table: str
    function: Callable[..., Any]

    @classmethod
    def of(cls, model: nn.Module) -> list[Hook]:
        """Return the forward hooks of a network that are not torch's own."""
        return [
            cls(name, table, hook)
            for name, module in model.named_modules()
            for table in FORWARD
            for hook in vars(module).get(table, {}).values()
            if not _is_torchs(hook)
        ]

    def __str__(self) -> str:
        kind = self.table.strip("_").removesuffix("s").replace("_", " ")
        return f"{kind} {label(self.function)} of {self.module or 'the network'!r}"


def has_own_hooks(model: nn.Module) -> bool:
    """Return whether a network has hooks of the forward pass that are not torch's own."""
    return bool(Hook.of(model))


def _is_torchs(hook: Callable[..., Any]) -> bool:
    """Tell whether a hook is one of torch's own parametrizations, which always compute."""
    function = getattr(hook, "__func__", hook)
    home = getattr(function, "__module__", None) or type(hook).__module__
    return str(home).startswith("torch.nn.utils")


def computing(model: nn.Module, inputs: Any) -> list[Hook]:
    """Return the hooks of the forward pass that change something, as one forward shows.

    A hook computes if it returns something, writes into tensors that it is given or that its
    module owns, or sets attributes of its module. The network is the same afterwards.
    """
    hooks = Hook.of(model)
    if not hooks or inputs is None:
        return []
    active: set[int] = set()
    with modules.untouched(model, hooks=True):  # the tables, too
        for module in model.modules():
            for table in FORWARD:
                found = vars(module).get(table, {})
                for key, hook in list(found.items()):
                    found[key] = _noting(hook, active)
        try:
            with isolated_rng(0), torch.no_grad():
                modules.call(model, inputs)
        except Exception:  # whoever runs it next reports it
            return []
    return [hook for hook in hooks if id(hook.function) in active]


def _noting(hook: Callable[..., Any], active: set[int]) -> Callable[..., Any]:
    def noted(module: nn.Module, *given: object) -> object:
        before = _state(module, given)
        result = hook(module, *given)
        if result is not None or _state(module, given) != before:
            active.add(id(hook))
        return result

    return noted


def _state(module: nn.Module, given: object) -> list[Any]:
    owned = [*module.parameters(), *module.buffers()]
    tensors = [*owned, *modules.tensors(given)]
    values = [id(value) for value in vars(module).values()]
    return [*values, *map(id, owned), *((id(t), t._version) for t in tensors)]


@contextmanager
def without_observers(model: nn.Module, kept: Collection[Hook]) -> Iterator[None]:
    """Take hooks off for a while, but for those that compute."""
    known = {id(hook.function) for hook in kept}
    before: list[tuple[nn.Module, str, Any]] = []
    try:
        for module in model.modules():
            for mark in MARKS:
                if mark in module.__dict__:
                    before.append((module, mark, module.__dict__.pop(mark)))
            gone: set[int] = set()
            for table in TABLES:
                hooks = module.__dict__.get(table)
                if hooks:
                    stays = {k: h for k, h in hooks.items() if id(h) in known or _is_torchs(h)}
                    before.append((module, table, hooks))
                    module.__dict__[table] = OrderedDict(stays)
                    gone |= hooks.keys() - stays.keys()
            for table in FLAGS if gone else ():
                flags = module.__dict__[table]
                before.append((module, table, flags))
                stays = {key: flag for key, flag in flags.items() if key not in gone}
                module.__dict__[table] = OrderedDict(stays)
        yield
    finally:
        for module, table, hooks in before:
            module.__dict__[table] = hooks
