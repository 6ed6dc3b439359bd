"""Near-misses: modules that look like units and are none, each with what stands in the way."""

from __future__ import annotations

from collections.abc import Collection

from srinit.recording import TraceIndex, short, within
from srinit.units.choose import CONTAINERS
from srinit.units.describe import first_shape, in_container, last_shape, locked_unit
from srinit.units.records import LockedUnit
from srinit.units.rule import stream_of


def near_misses(traced: TraceIndex, taken: Collection[str]) -> list[LockedUnit]:
    """Return the locked near-misses outside of `taken`, outermost first.

    A module is one if it is of a unit's class and changes the shape or is never called, or if it
    is an element of a container that adds something and changes the shape.

    Args:
        traced: The recorded forward.
        taken: Names of all units, removable or locked.
    """
    classes = {
        type(traced.named[name])
        for name in taken
        if not type(traced.named[name]).__module__.startswith("torch.nn.modules.")
        or next(traced.named[name].children(), None) is not None
    }
    found: list[LockedUnit] = []
    for name, module in traced.named.items():
        known = (*taken, *(lock.name for lock in found))
        if not name or isinstance(module, CONTAINERS) or any(within(name, k) for k in known):
            continue
        if any(within(other, name) for other in taken) or not traced.has_params(name):
            continue
        lock = _lock(traced, name, relative=type(module) in classes)
        if lock is not None:
            found.append(lock)
    return found


def shared(traced: TraceIndex, taken: Collection[str]) -> list[LockedUnit]:
    """Return the modules outside of `taken` that would be units and are called several times."""
    found: list[LockedUnit] = []
    for name in traced.named:
        known = (*taken, *(lock.name for lock in found))
        call, times = traced.call(name), traced.counts[name]
        if times < 2 or call is None or not name or any(within(name, k) for k in known):
            continue
        if any(within(other, name) for other in taken) or not traced.has_params(name):
            continue
        if stream_of(traced.trace, call) is not None:
            detail = f"called {times} times in one forward with the same weights; all or none goes"
            found.append(locked_unit(traced, name, "shared", detail))
    return found


def _lock(traced: TraceIndex, name: str, *, relative: bool) -> LockedUnit | None:
    call, times = traced.call(name), traced.counts[name]
    if call is None:
        detail = "it is never called in a forward on the example inputs"
        return locked_unit(traced, name, "never called", detail) if relative else None
    if times > 1:
        return None
    before, after = first_shape(traced, call), last_shape(traced, call)
    adds = any(short(op) == "add" for op in traced.trace.ops[call.start : call.end])
    changes = before != after and len(before) == len(after)
    if relative and before == after:
        detail = "it keeps the shape but has no shortcut; include_plain=True may offer its layers"
    elif changes and (relative or (adds and in_container(traced, name))):
        detail = f"it turns {before} into {after} and has no shortcut that could stay"
    else:
        return None
    return locked_unit(traced, name, "shape change", detail)
