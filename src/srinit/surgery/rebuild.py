"""Repeats a surgery that was proved before: the same deletions, without running the network."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from torch import nn

from srinit import modules
from srinit.copying import detached_copy, has_own_hooks, initialized
from srinit.specs import example_from
from srinit.state import is_uninitialized
from srinit.surgery.config import follow_cut
from srinit.surgery.remove import check_names
from srinit.surgery.replace import deletable, delete, depth, replace_units, stand_ins
from srinit.units.bypass import PassThroughFor
from srinit.units.records import Unit

__all__ = ["rebuild", "stand_ins"]


def rebuild(
    model: nn.Module,
    units: Iterable[Unit],
    *,
    in_place: Collection[str],
    inputs: object = None,
    passthrough: PassThroughFor | None = None,
) -> nn.Module:
    """Return a copy of `model` without `units`, in the form an earlier surgery proved right.

    Args:
        model: The unpruned network; not touched.
        units: What goes.
        in_place: What a stand-in was left for (`stand_ins` of the earlier result); the rest is
            deleted from its containers.
        inputs: Their description (`srinit.specs`). Networks with lazy parts or hooks of their own
            are run once on such; others are not run.
        passthrough: The stand-ins of your own that the earlier surgery used.

    Raises:
        ModelError: `model` cannot be copied, or has lazy parts and nothing to run it on.
        PlanError: There is no submodule of a unit's name.
    """
    chosen = list(units)
    result = _own(model, inputs)
    check_names(result, chosen)
    result = replace_units(result, chosen, passthrough=passthrough)
    cuts = {}
    entries_of = deletable(result, chosen)
    for path in sorted(entries_of, key=depth, reverse=True):
        gone = [last for last in entries_of[path] if f"{path}.{last}".lstrip(".") not in in_place]
        if gone:
            cuts[path] = delete(result, path, gone)
    follow_cut(result, cuts, tuple(unit.name for unit in chosen))
    return result


def _own(model: nn.Module, inputs: object) -> nn.Module:
    """Return a copy with all its weights, whatever they are."""
    example = None
    if inputs is not None and (is_uninitialized(model) or has_own_hooks(model)):
        example = example_from(inputs, device=modules.device_of(model))
    return detached_copy(initialized(model, example), example)[0]
