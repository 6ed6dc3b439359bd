"""Takes units out of a network in place: stand-ins, shortcuts, deleted container entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from srinit import modules
from srinit.recording import within
from srinit.units.branch import drop
from srinit.units.bypass import PassThroughFor, gone_from, replacements, site_of
from srinit.units.choose import CONTAINERS
from srinit.units.records import Unit


@dataclass(frozen=True, slots=True)
class Cut:
    """What left one container: how many entries it had, and which went (counted from 0)."""

    before: int
    gone: frozenset[int]

    @property
    def after(self) -> int:
        """How many entries are left."""
        return self.before - len(self.gone)


def replace_units(
    model: nn.Module, units: Iterable[Unit], *, passthrough: PassThroughFor | None = None
) -> nn.Module:
    """Return `model` with stand-ins in the places of units; changed in place.

    Branches leave with their modules. Only where the network itself executes the addition is
    the returned object another one.

    Raises:
        SurgeryError: The site of a branch cannot be rewritten.
    """
    for unit in units:
        for name, module in replacements(model, unit, passthrough=passthrough):
            if not name:
                model = module
                continue
            if unit.how != "branch" or name != site_of(unit):
                module.__dict__.setdefault("stands_for", name)
            _put(model, name, module)
        if unit.how == "branch":
            site = site_of(unit)
            prefix = len(site) + 1 if site else 0
            drop(model.get_submodule(site), [name[prefix:] for name in gone_from(unit)])
    return model


def _put(model: nn.Module, name: str, replacement: nn.Module) -> None:
    parent, last = modules.parent_of(model, name)
    original = parent._modules[last]
    for module in list(model.modules()):  # a module may be registered under several names
        for key, child in module._modules.items():
            if child is original:
                module._modules[key] = replacement


def stand_ins(model: nn.Module) -> tuple[str, ...]:
    """Return the names, in the unpruned network, of what stand-ins were left for."""
    found = {vars(module).get("stands_for") for module in model.modules()}
    return tuple(sorted(name for name in found if isinstance(name, str) and name))


def deletable(model: nn.Module, units: Iterable[Unit]) -> dict[str, list[str]]:
    """Return by container the entries that may be deleted instead of passed through."""
    found: dict[str, list[str]] = {}
    for unit in units:
        names = [] if unit.how == "branch" else [unit.name]
        outside = unit.how != "branch" or None
        names += [n for n in unit.also if outside or not within(n, site_of(unit))]
        for name in names:
            path, _, last = name.rpartition(".")
            if isinstance(model.get_submodule(path), CONTAINERS):
                found.setdefault(path, []).append(last)
    return found


def delete(model: nn.Module, path: str, entries: Iterable[str]) -> Cut:
    """Delete entries of a container, in place; numbered ones that follow move up."""
    container = model.get_submodule(path)
    keys = list(container._modules)
    gone = set(entries)
    kept = [(key, container._modules[key]) for key in keys if key not in gone]
    numbered = keys == [str(index) for index in range(len(keys))]
    container._modules.clear()
    for index, (key, child) in enumerate(kept):
        container._modules[str(index) if numbered else key] = child
    return Cut(len(keys), frozenset(index for index, key in enumerate(keys) if key in gone))


def depth(path: str) -> int:
    """Return how deep a module lies; the model itself at 0."""
    return path.count(".") + 1 if path else 0


def moved(name: str, cuts: Mapping[str, Cut]) -> str:
    """Return the name a module has after the cuts, from its name before them.

    Example:
        >>> moved("layers.3.attn", {"layers": Cut(4, frozenset({0, 1}))})
        'layers.1.attn'
    """
    parts = name.split(".")
    for depth in range(len(parts)):
        cut = cuts.get(".".join(name.split(".")[:depth]))
        if cut is not None and parts[depth].isdigit():
            index = int(parts[depth])
            parts[depth] = str(index - sum(g < index for g in cut.gone))
    return ".".join(parts)
