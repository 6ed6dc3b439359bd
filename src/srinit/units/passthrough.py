"""What stands in for a removed unit: hands its input on, in the structure of the unit's output."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from srinit.errors import SurgeryError
from srinit.recording import is_record

PLAIN = (str, int, float, bool, type(None), torch.dtype)


class PassThrough(nn.Module):
    """Returns one of its arguments, in the output structure of the unit it stands in for.

    Args:
        structure: How the output is built, as `srinit.units` records it: `{"argument": path}`
            takes an argument (path into `[args, kwargs]`), `{"zeros": path}` zeros like one,
            `{"tuple": [...]}`,
            `{"list": [...]}`, `{"dict": {...}, "class": name}` build a container,
            `{"record": {...}, "like": path}` a dataclass or named tuple from one among the
            arguments, `{"value": x}` is a constant. Where the network passes None for what the
            structure looks into (a state that it keeps in one mode only), None comes back.

    Example:
        >>> skip = PassThrough({"tuple": [{"argument": [0, 0]}, {"value": None}]})
        >>> skip(torch.ones(1))
        (tensor([1.]), None)
    """

    def __init__(self, structure: object) -> None:
        super().__init__()
        self.structure = structure
        self.stands_for = ""

    def forward(self, *args: object, **kwargs: object) -> Any:
        """Return the output structure filled from the arguments."""
        return _build(self.structure, (args, kwargs))

    def extra_repr(self) -> str:
        """Return the structure, for printing."""
        return str(self.structure)


def standing_in_for(unit: nn.Module, structure: object, *, name: str = "") -> PassThrough:
    """Return a pass-through that carries the plain attributes a parent may read from the unit.

    Args:
        unit: What it stands in for.
        structure: Of the unit's output.
        name: Of the unit in the unpruned network; the pass-through keeps it as `stands_for`.
    """
    made = PassThrough(structure)
    made.stands_for = name
    _carry(unit, made)
    return made.train(unit.training)


class Shell(nn.Module):
    """Holds the plain attributes of a module that went, for parents that read them."""


BARE = len(vars(Shell()))  # attributes of a shell that holds nothing


def _carry(source: nn.Module, target: nn.Module) -> None:
    """Copy plain attributes to `target`, and shells of the submodules that have some.

    Parameters become tensors on the meta device: their shapes and dtypes can be asked for, and
    they may be scaled in place; a use of their values fails.
    """
    for name, weight in source._parameters.items():
        if weight is not None and not is_lazy(weight) and name not in vars(target):
            vars(target)[name] = torch.empty_like(weight, device="meta", requires_grad=False)
    for name, value in vars(source).items():
        if _is_plain(value) and name != "training" and name not in vars(target):
            vars(target)[name] = value  # plain values need none of what Module.__setattr__ does
    for name, child in source._modules.items():
        if child is not None and not hasattr(target, name):
            shell = Shell()
            _carry(child, shell)
            if shell._modules or len(vars(shell)) > BARE:
                target.add_module(name, shell)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(part) for part in value)
    return isinstance(value, PLAIN)


def _build(structure: Any, given: Any) -> Any:
    for key in ("argument", "zeros"):
        if key in structure:
            value = _at(given, structure[key])
            return torch.zeros_like(value) if key == "zeros" and value is not None else value
    whole = _container_of(structure)
    if whole is not None and _at(given, whole) is None:
        return None
    if "tuple" in structure:
        return tuple(_build(part, given) for part in structure["tuple"])
    if "list" in structure:
        return [_build(part, given) for part in structure["list"]]
    if "dict" in structure:
        body = {key: _build(part, given) for key, part in structure["dict"].items()}
        return _container(structure.get("class", ""))(**body)
    if "record" in structure:
        parts = {key: _build(part, given) for key, part in structure["record"].items()}
        return _like(structure["like"], parts, given)
    return structure["value"]


def _container_of(structure: Mapping[str, Any]) -> Sequence[str | int] | None:
    """Return the path of the argument whose entries all entries of a structure are, or None."""
    parts = structure.get("tuple") or structure.get("list") or structure.get("dict") or ()
    entries = list(parts.values() if isinstance(parts, Mapping) else parts)
    paths = [part["argument"][:-1] for part in entries if "argument" in part]
    inside = len(paths) == len(entries) > 0 and len(paths[0]) > 1
    return paths[0] if inside and all(path == paths[0] for path in paths) else None


def _at(given: Any, path: Sequence[str | int]) -> Any:
    for step in path:
        if given is None:
            return None
        given = getattr(given, str(step)) if is_record(given) else given[step]
    return given


def _like(path: Sequence[str | int] | None, parts: dict[str, Any], given: object) -> Any:
    """Return a dataclass or named tuple of an argument's class with other fields."""
    if path is None:
        raise SurgeryError(
            "the output is an object of a class that none of the arguments has, so that nothing "
            "could build it; pass a passthrough of your own"
        )
    example = _at(given, path)
    if example is None:
        return None
    if isinstance(example, tuple):
        return example._replace(**parts)  # type: ignore[attr-defined]
    return dataclasses.replace(example, **parts)


def _container(name: str) -> Any:
    """Return the class of a dict-like output; only `dict` and transformers' output classes."""
    module, _, qualified = name.partition(":")
    if not module.startswith("transformers.") or "." in qualified:
        return dict
    found = getattr(importlib.import_module(module), qualified, None)
    if not (isinstance(found, type) and issubclass(found, Mapping)):
        raise SurgeryError(f"{name} is no output class of transformers.")
    return found
