"""Whether what enters a module also goes around it, so that an identity is no removal."""

from __future__ import annotations

from srinit.recording.operations import JOINS, NORMS, SCALES, SHAPE_KEPT, VIEWS, short
from srinit.recording.residual_adds import POOLS
from srinit.recording.trace_index import TraceIndex

PASSED = VIEWS | SHAPE_KEPT | NORMS | SCALES | POOLS


def goes_around(
    traced: TraceIndex, start: int, end: int, source: int, sink: int, *, side_by_side: bool = False
) -> str:
    """Return the operation in which the output of a module meets its input again, or "".

    Handing the input on would then compute `x * x` where the network has `x * gate(x)`, or
    `x + x` in the place of `x + branch(x)`.

    Args:
        traced: The recorded forward.
        start: First operation of the module.
        end: One past the last.
        source: What enters.
        sink: What leaves.
        side_by_side: Let concatenations be: there the two never become one value.
    """
    trace = traced.trace
    origins = {source}
    value = source
    while (made := trace.maker[value]) is not None and short(trace.ops[made]) in PASSED:
        before = [v for v in trace.ops[made].inputs if v not in traced.weights]
        if len(before) != 1:
            break
        value = before[0]
        origins.add(value)
    around, through = set(origins), {sink}
    for index, op in enumerate(trace.ops):
        if start <= index < end or index in traced.useless:
            continue
        meets = not through.isdisjoint(op.inputs)
        passes = any(v in around and v not in through for v in op.inputs)
        joins = short(op) in JOINS
        if meets and passes and index >= end and not (joins and side_by_side):
            return short(op)
        if meets:
            through.update(op.outputs)
        elif passes and not origins.intersection(op.outputs):
            around.update(op.outputs)
    return ""
