"""Near-misses: modules that look like units and are none, each with what stands in the way."""

from __future__ import annotations

from collections.abc import Collection

from srinit.units.choose import CONTAINERS
from srinit.units.describe import first_shape, in_container, last_shape, locked_unit
from srinit.units.facts import Facts, within
from srinit.units.records import LockedUnit
from srinit.units.rule import (
    ADDITIONS,
    NORMS,
    SCALES,
    SHAPE_KEPT,
    VIEWS,
    short,
    stays,
    stream_of,
)
from srinit.units.trace import Call


def near_misses(facts: Facts, taken: Collection[str]) -> list[LockedUnit]:
    """Return the locked near-misses outside of `taken`, outermost first.

    A module is one if it is of a unit's class and changes the shape or is never called, or if it
    is an element of a container that adds something and changes the shape.

    Args:
        facts: The recorded forward.
        taken: Names of all units, removable or locked.
    """
    classes = {
        type(facts.named[name])
        for name in taken
        if not type(facts.named[name]).__module__.startswith("torch.nn.modules.")
        or next(facts.named[name].children(), None) is not None
    }
    found: list[LockedUnit] = []
    for name, module in facts.named.items():
        known = (*taken, *(lock.name for lock in found))
        if not name or isinstance(module, CONTAINERS) or any(within(name, k) for k in known):
            continue
        if any(within(other, name) for other in taken) or not facts.has_params(name):
            continue
        lock = _lock(facts, name, relative=type(module) in classes)
        if lock is not None:
            found.append(lock)
    return found


def shared(facts: Facts, taken: Collection[str]) -> list[LockedUnit]:
    """Return the modules outside of `taken` that would be units and are called several times."""
    found: list[LockedUnit] = []
    for name in facts.named:
        known = (*taken, *(lock.name for lock in found))
        call, times = facts.call(name), facts.counts[name]
        if times < 2 or call is None or not name or any(within(name, k) for k in known):
            continue
        if any(within(other, name) for other in taken) or not facts.has_params(name):
            continue
        if stream_of(facts.trace, call) is not None:
            detail = f"called {times} times in one forward with the same weights; all or none goes"
            found.append(locked_unit(facts, name, "shared", detail))
    return found


def providing(facts: Facts) -> list[LockedUnit]:
    """Return the modules that an addition joins to what they take, and whose rest is used too.

    Such as a recurrent layer whose final state starts the next one, or is returned.
    """
    found: dict[str, LockedUnit] = {}
    for index, op in enumerate(facts.trace.ops):
        if short(op) not in ADDITIONS or len(op.inputs) != 2 or op.inputs[0] == op.inputs[1]:
            continue
        for skip, branch in (op.inputs, op.inputs[::-1]):
            call = _maker(facts, branch, index)
            if call is None or call.name in found or not stays(op, skip):
                continue
            if any(_leads(facts, skip, value) for _, value in call.inputs):
                others = [v for _, v in call.outputs if _elsewhere(facts, v, call, index)]
                if others:
                    shape = "x".join(map(str, facts.trace.shapes[others[0]])) or "one number"
                    detail = f"a value of shape {shape} that it returns is used by later parts too"
                    found[call.name] = locked_unit(
                        facts, call.name, "provider", detail, kind="branch"
                    )
    return list(found.values())


def _maker(facts: Facts, value: int, reader: int) -> Call | None:
    """Return the module with parameters, called where an addition stands, whose output it joins."""
    site = facts.owner[reader]
    while (made := facts.trace.maker[value]) is not None:
        for number in facts.chain(facts.owner[made]):
            call = facts.trace.calls[number]
            if call.parent == site:
                known = facts.counts[call.name] == 1 and facts.has_params(call.name)
                heavy = any(facts.heavy(k) for k in range(call.start, call.end))
                return call if known and heavy else None
        op = facts.trace.ops[made]
        sources = [v for v in op.inputs if v not in facts.weights]
        if len(sources) != 1 or short(op) not in VIEWS | SHAPE_KEPT | NORMS | SCALES:
            return None
        value = sources[0]
    return None


def _leads(facts: Facts, start: int, value: int) -> bool:
    """Tell whether a value is another one, or a view or norm of it."""
    while value != start:
        made = facts.trace.maker[value]
        if made is None or short(facts.trace.ops[made]) not in VIEWS | NORMS | SHAPE_KEPT:
            return False
        value = facts.trace.ops[made].inputs[0] if facts.trace.ops[made].inputs else -1
        if value < 0:
            return False
    return True


def _elsewhere(facts: Facts, value: int, call: Call, reader: int) -> bool:
    """Tell whether a value that leaves a call is used by more than one addition."""
    waiting, seen = [value], {value}
    while waiting:
        value = waiting.pop()
        if value in facts.final:
            return True
        for index in facts.readers(value):
            op = facts.trace.ops[index]
            if index < call.end or index == reader or index in facts.useless:
                continue
            if short(op) not in VIEWS | SHAPE_KEPT | NORMS | SCALES or facts.heavy(index):
                return True
            fresh = [v for v in op.outputs if v not in seen]
            seen.update(fresh)
            waiting += fresh
    return False


def _lock(facts: Facts, name: str, *, relative: bool) -> LockedUnit | None:
    call, times = facts.call(name), facts.counts[name]
    if call is None:
        detail = "it is never called in a forward on the example inputs"
        return locked_unit(facts, name, "never called", detail) if relative else None
    if times > 1:
        return None
    before, after = first_shape(facts, call), last_shape(facts, call)
    adds = any(short(op) == "add" for op in facts.trace.ops[call.start : call.end])
    changes = before != after and len(before) == len(after)
    if relative and before == after:
        detail = "it keeps the shape but has no shortcut; include_plain=True may offer its layers"
    elif changes and (relative or (adds and in_container(facts, name))):
        detail = f"it turns {before} into {after} and has no shortcut that could stay"
    else:
        return None
    return locked_unit(facts, name, "shape change", detail)
