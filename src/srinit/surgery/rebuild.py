"""Repeats a surgery that was proved before: the same deletions, without running the network."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable

from torch import nn

from srinit.surgery.config import follow_cut
from srinit.surgery.remove import check_names, deleted, put
from srinit.units.passthrough import PassThrough
from srinit.units.records import Unit
from srinit.units.verify import stand_in


def stand_ins(model: nn.Module) -> tuple[str, ...]:
    """Return the names, in the unpruned network, of the units that pass-throughs stand in for."""
    found = [module for module in model.modules() if isinstance(module, PassThrough)]
    return tuple(sorted({module.stands_for for module in found if module.stands_for}))


def rebuild(model: nn.Module, units: Iterable[Unit], *, in_place: Collection[str]) -> nn.Module:
    """Return a copy of `model` without `units`, in the form an earlier surgery proved right.

    Args:
        model: The unpruned network; not touched.
        units: What goes.
        in_place: Those of them that a pass-through stands in for; the others are deleted from
            their containers.

    Raises:
        PlanError: There is no submodule of a unit's name.
    """
    chosen = list(units)
    check_names(model, chosen)
    result = copy.deepcopy(model)
    by_container: dict[str, list[str]] = {}
    for unit in chosen:
        if unit.kind == "branch" or unit.name in in_place:
            put(result, unit.name, stand_in(result.get_submodule(unit.name), unit))
        else:
            path, _, last = unit.name.rpartition(".")
            by_container.setdefault(path, []).append(last)
    result = deleted(result, by_container)
    follow_cut(result, tuple(unit.name for unit in chosen))
    return result
