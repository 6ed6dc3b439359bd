"""Outputs that are collected outside the stream: feature pyramids, `out_indices`, hidden states."""

from __future__ import annotations

from collections.abc import Iterable

from srinit.recording.operations import ADDITIONS, VIEWS, short
from srinit.recording.trace import Call
from srinit.recording.trace_index import TraceIndex


def side_output_of(
    traced: TraceIndex, call: Call, sink: int, others: Iterable[tuple[Call, int]]
) -> str:
    """Return who reads the end of a unit's stream besides the stream itself; "" if nobody does.

    The stream goes on where a later unit lies, unless the units that take the value take it
    beside their own stream (the memory of a decoder). Readers elsewhere are side outputs, except
    additions (an outer shortcut); where the stream ends, several readers are several heads.

    Args:
        traced: The recorded forward.
        call: The unit's call.
        sink: The value that leaves it.
        others: Of all units the call, and the value their stream starts with.
    """
    later = [(other, source) for other, source in others if other.start >= call.end]
    around = set(traced.chain(call.number))
    goes_on, elsewhere = False, []
    for reader in _readers(traced, call, sink):
        start, end, name = _region(traced, reader, around)
        inside = [(o, source) for o, source in later if start <= o.start and o.end <= end]
        if inside:
            goes_on = goes_on or not all(_beside(o, source, sink) for o, source in inside[:1])
        elif short(traced.trace.ops[reader]) not in ADDITIONS:
            elsewhere.append(name)
    if not goes_on:
        return ""
    if elsewhere:
        return repr(elsewhere[0]) if elsewhere[0] else "the network's own forward"
    return "the network's output" if _is_final(traced, sink) else ""


def _beside(other: Call, source: int, sink: int) -> bool:
    """Tell whether a unit takes a value as something else than its own stream."""
    return source != sink and any(value == sink for _, value in other.inputs)


def _readers(traced: TraceIndex, call: Call, sink: int) -> list[int]:
    """Return the operations after the unit that read its output, also through views of it."""
    found, waiting = [], [sink]
    while waiting:
        for reader in traced.readers(waiting.pop()):
            if reader < call.end:
                continue
            op = traced.trace.ops[reader]
            if short(op) in VIEWS:
                waiting.extend(op.outputs)
            else:
                found.append(reader)
    return found


def _is_final(traced: TraceIndex, sink: int) -> bool:
    waiting = [sink]
    while waiting:
        value = waiting.pop()
        if value in traced.final:
            return True
        for reader in traced.readers(value):
            op = traced.trace.ops[reader]
            if short(op) in VIEWS:
                waiting.extend(op.outputs)
    return False


def _region(traced: TraceIndex, reader: int, around: set[int]) -> tuple[int, int, str]:
    """Return the range of operations, and the name, of the outermost call that holds a reader.

    Calls that hold the unit as well do not count; without another the operation stands alone.
    """
    chain = traced.chain(traced.owner[reader])
    outside = [number for number in chain if number not in around]
    if not outside:
        return reader, reader + 1, traced.trace.calls[chain[0]].name
    call = traced.trace.calls[outside[-1]]
    return call.start, call.end, call.name
