"""The rule that finds what authors call a block, on a recorded forward.

A module is a unit when it is called once, has parameters, one of its outputs equals one of its
inputs in shape and dtype, and a skip path (additions, views, scales, norms, activations,
concatenations of a split) leads from that input to that output, into which at least one branch
with parameters additions inside the module; the branch takes nothing that was computed outside the
module from the same input.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from srinit.recording import (
    ADDITIONS,
    JOINS,
    MERGING,
    NORMS,
    SCALES,
    SHAPE_KEPT,
    VIEWS,
    Call,
    Op,
    Trace,
    short,
    stays,
)


@dataclass(slots=True)
class Stream:
    """The skip path of one module call."""

    source: int  # the value that enters
    sink: int  # the value that leaves
    additions: frozenset[int]  # operations that join a branch with parameters
    source_path: tuple[str | int, ...] = ()
    sink_path: tuple[str | int, ...] = ()


@dataclass(slots=True)
class _State:
    """What is known of the values inside one call, with respect to one input."""

    skip: dict[int, frozenset[int]] = field(default_factory=dict)  # value -> additions on its path
    depends: set[int] = field(default_factory=set)  # computed from the source
    weighted: set[int] = field(default_factory=set)  # from the source, through parameters
    outside: set[int] = field(default_factory=set)  # rest on what the source became outside
    before: set[int] | None = None  # what the source became before the call
    of_params: set[int] = field(default_factory=set)  # parameters transposed, cast, shifted


def stream_of(trace: Trace, call: Call) -> Stream | None:
    """Return the skip path of a call with the most additions, or None where there is none."""
    best: Stream | None = None
    ops = trace.ops[call.start : call.end]
    if not any(len(op.inputs) > 1 and short(op) in MERGING for op in ops):
        return None
    reached: dict[int, dict[int, frozenset[int]]] = {}
    for out_path, sink in call.outputs:
        for in_path, source in call.inputs:
            same = (
                trace.shapes[source] == trace.shapes[sink]
                and trace.dtypes[source] == trace.dtypes[sink]
                and trace.dtypes[source].is_floating_point
                and sink != source
            )
            if not same or not trace.shapes[source]:
                continue
            if source not in reached:
                reached[source] = follow(trace, call, source)
            additions = reached[source].get(sink)
            if additions and (best is None or len(additions) > len(best.additions)):
                best = Stream(source, sink, additions, in_path, out_path)
    return best


def follow(trace: Trace, call: Call, source: int) -> dict[int, frozenset[int]]:
    """Return the values that a skip path reaches from `source`, with the additions on the way."""
    state = _State(skip={source: frozenset()}, depends={source})
    for index in range(call.start, call.end):
        _step(trace, call, source, index, trace.ops[index], state)
    return state.skip


def _step(trace: Trace, call: Call, source: int, index: int, op: Op, state: _State) -> None:
    uses_params, depends, weighted, outside = op.uses_params, False, False, False
    for value in op.inputs:
        depends = depends or value in state.depends
        weighted = weighted or value in state.weighted
        uses_params = uses_params or value in state.of_params
        outside = outside or value in state.outside or _outside(trace, call, source, value, state)
    additions = _passed(trace, op, index, state)
    weighted = weighted or (depends and uses_params)
    for value in op.outputs:
        if outside:
            state.outside.add(value)
        if depends:
            state.depends.add(value)
        if uses_params and not depends:
            state.of_params.add(value)
        if weighted:
            state.weighted.add(value)
        if additions is not None:
            state.skip[value] = additions


def _outside(trace: Trace, call: Call, source: int, value: int, state: _State) -> bool:
    """Tell whether a value was computed before a call from the same input."""
    made_by, first = trace.maker[value], trace.maker[source]
    if made_by is None or made_by >= call.start or (first is not None and made_by <= first):
        return False
    if state.before is None:
        found = {source}
        for op in trace.ops[0 if first is None else first + 1 : call.start]:
            if not found.isdisjoint(op.inputs):
                found.update(op.outputs)
        state.before = found - {source}
    return value in state.before


def _passed(trace: Trace, op: Op, index: int, state: _State) -> frozenset[int] | None:
    """Return the additions on the path through an operation; None where the path ends there."""
    name = short(op)
    if index in trace.mixes:
        found = trace.mixes[index]
        mixed = found.branch <= state.weighted and found.branch.isdisjoint(state.outside)
        if mixed and found.keep in state.skip:
            return state.skip[found.keep] | {index}
    on_path = [value for value in op.inputs if value in state.skip]
    if not on_path:
        return None
    so_far = frozenset[int]().union(*(state.skip[value] for value in on_path))
    if name in VIEWS or name in SHAPE_KEPT:
        return so_far
    if name in NORMS:
        return so_far if op.inputs[0] in state.skip else None
    others = [value for value in op.inputs if value not in state.skip]
    if name in SCALES:
        free = all(value not in state.depends or _scalar(trace, value) for value in others)
        return so_far if free else None
    kept = {value for value in on_path if stays(op, value)}
    if name in JOINS or (name in ADDITIONS and kept):
        joins = len(op.inputs) > 1 and any(
            value in state.weighted and value not in state.outside for value in op.inputs
        )
        if name in JOINS and not joins:
            return so_far
        if joins and _behind_a_gate(trace, index, kept, state):
            return None
        return so_far | {index} if joins else so_far
    return None


def _behind_a_gate(trace: Trace, index: int, kept: set[int], state: _State) -> bool:
    """Tell whether the path enters an addition scaled by what parameters make of its start.

    One number per position may be the factor of a norm, which a path may pass; the carry gate of
    a highway layer is one too, and only the addition that follows tells them apart.
    """
    for value in kept:
        made = trace.maker[value]
        if made is None or short(trace.ops[made]) not in SCALES or value not in state.skip:
            continue
        alone = trace.readers.get(value) == [index]
        factors = [other for other in trace.ops[made].inputs if other not in state.skip]
        start = [other for other in trace.ops[made].inputs if other in state.skip]
        if alone and any(_gate(trace, factor, start) for factor in factors):
            return True
    return False


def _gate(trace: Trace, factor: int, start: list[int]) -> bool:
    """Tell whether a factor is made by a product with parameters of what it scales."""
    waiting, seen = [factor], {factor, *start}
    while waiting:
        made = trace.maker[waiting.pop()]
        if made is None:
            continue
        op = trace.ops[made]
        if op.flops and not set(start).isdisjoint(_sources(trace, op)):
            return True
        waiting += [value for value in op.inputs if value not in seen]
        seen.update(op.inputs)
    return False


def _sources(trace: Trace, op: Op) -> set[int]:
    """Return what an operation reads, through views and norms."""
    found: set[int] = set()
    waiting = list(op.inputs)
    while waiting:
        value = waiting.pop()
        found.add(value)
        made = trace.maker[value]
        if made is not None and short(trace.ops[made]) in VIEWS | NORMS | SHAPE_KEPT:
            waiting += [v for v in trace.ops[made].inputs if v not in found]
    return found


def _scalar(trace: Trace, value: int) -> bool:
    """Tell whether a value is one number per position, as the factor of a norm is."""
    shape = trace.shapes[value]
    return not shape or shape[-1] == 1
