"""Branches that hand on more than what is added: states, attention weights, collected outputs."""

from __future__ import annotations

from srinit.recording import (
    ADDITIONS,
    NORMS,
    SCALES,
    SHAPE_KEPT,
    VIEWS,
    Call,
    TraceIndex,
    short,
    stays,
)
from srinit.units.describe import locked_unit
from srinit.units.records import LockedUnit

PASSED = VIEWS | SHAPE_KEPT | NORMS | SCALES


def dependencies(traced: TraceIndex) -> list[LockedUnit]:
    """Return the modules that an addition joins to what they take, and whose rest is used too.

    Such as a recurrent layer whose final state starts the next one, or is returned.
    """
    found: dict[str, LockedUnit] = {}
    for index, op in enumerate(traced.trace.ops):
        if short(op) not in ADDITIONS or len(op.inputs) != 2 or op.inputs[0] == op.inputs[1]:
            continue
        for skip, branch in (op.inputs, op.inputs[::-1]):
            call = _maker(traced, branch, index)
            if call is None or call.name in found or not stays(op, skip):
                continue
            if any(_leads(traced, skip, value) for _, value in call.inputs):
                others = [v for _, v in call.outputs if _elsewhere(traced, v, call, index)]
                if others:
                    shape = "x".join(map(str, traced.trace.shapes[others[0]])) or "one number"
                    detail = f"a value of shape {shape} that it returns is used by later parts too"
                    found[call.name] = locked_unit(
                        traced, call.name, "dependency", detail, kind="branch"
                    )
    return list(found.values())


def _maker(traced: TraceIndex, value: int, reader: int) -> Call | None:
    """Return the module with parameters, called where an addition stands, whose output it joins."""
    site = traced.owner[reader]
    while (made := traced.trace.maker[value]) is not None:
        for number in traced.chain(traced.owner[made]):
            call = traced.trace.calls[number]
            if call.parent == site:
                known = traced.counts[call.name] == 1 and traced.has_params(call.name)
                heavy = any(traced.heavy(k) for k in range(call.start, call.end))
                return call if known and heavy else None
        op = traced.trace.ops[made]
        sources = [v for v in op.inputs if v not in traced.weights]
        if len(sources) != 1 or short(op) not in PASSED:
            return None
        value = sources[0]
    return None


def _leads(traced: TraceIndex, start: int, value: int) -> bool:
    """Tell whether a value is another one, or a view or norm of it."""
    while value != start:
        made = traced.trace.maker[value]
        if made is None or short(traced.trace.ops[made]) not in VIEWS | NORMS | SHAPE_KEPT:
            return False
        value = traced.trace.ops[made].inputs[0] if traced.trace.ops[made].inputs else -1
        if value < 0:
            return False
    return True


def _elsewhere(traced: TraceIndex, value: int, call: Call, reader: int) -> bool:
    """Tell whether a value that leaves a call is used by more than one addition."""
    waiting, seen = [value], {value}
    while waiting:
        value = waiting.pop()
        if value in traced.final:
            return True
        for index in traced.readers(value):
            op = traced.trace.ops[index]
            if index < call.end or index == reader or index in traced.useless:
                continue
            if short(op) not in PASSED or traced.heavy(index):
                return True
            fresh = [v for v in op.outputs if v not in seen]
            seen.update(fresh)
            waiting += fresh
    return False
