"""Plain units: runs of one convolution or linear layer with what follows it, that keep the shape.

For networks without shortcuts, on demand: VGG, MobileNetV1 and their like.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from srinit.recording import (
    NORMS,
    SCALES,
    SHAPE_KEPT,
    VIEWS,
    Call,
    TraceIndex,
    find_residual_adds,
    goes_around,
    short,
)
from srinit.units.describe import class_name, in_container, stage_of
from srinit.units.records import Unit

LIGHT_AFTER = NORMS | SCALES | SHAPE_KEPT | VIEWS | {"empty"}  # norms ask for room to work in


def plain_units(traced: TraceIndex, *, outside: Collection[Call]) -> list[Unit]:
    """Return the plain units outside of some calls, in order of execution.

    A run starts with a module that holds one product with parameters, takes along the norms,
    activations and dropouts that follow it, and ends where it started in shape. The last such
    layer of the network, its classifier, is left out.
    """
    heavy = [index for index in range(len(traced.trace.ops)) if traced.heavy(index)]
    busy = frozenset[int]().union(*(addition.dead for addition in find_residual_adds(traced)))
    units = []
    for run in _runs(traced, heavy, outside):
        while run and not _keeps_shape(traced, run):
            run = run[:-1]
        if not run or not busy.isdisjoint(range(run[0].start, run[-1].end)) or _joined(traced, run):
            continue
        if any(index >= run[-1].end for index in heavy):
            units.append(_unit(traced, run))
    return units


def _joined(traced: TraceIndex, run: list[Call]) -> str:
    source, sink = run[0].inputs[0][1], run[-1].outputs[0][1]
    return goes_around(traced, run[0].start, run[-1].end, source, sink, side_by_side=True)


def _unit(traced: TraceIndex, run: list[Call]) -> Unit:
    first, names = run[0], [call.name for call in run]
    shape = traced.trace.shapes[first.inputs[0][1]][1:]
    contained = all(in_container(traced, name) for name in names)
    return Unit(
        name=first.name,
        kind="plain",
        in_shape=shape,
        out_shape=shape,
        params=traced.saved_params(names),
        flops=sum(traced.trace.flops(call) for call in run),
        position=0,
        stage=stage_of(first.name, shape),
        how="delete" if contained else "passthrough",
        class_name=class_name(traced, first.name),
        output={"argument": list(first.inputs[0][0])},
        also={call.name: {"argument": list(call.inputs[0][0])} for call in run[1:]},
    )


def _runs(traced: TraceIndex, heavy: list[int], outside: Collection[Call]) -> Iterator[list[Call]]:
    """Yield chains of calls under one parent: one with a product, then some without."""
    run: list[Call] = []
    for call in _units_of_work(traced, heavy, outside):
        if _products(call, heavy) == 1:
            yield run
            run = [call] if _is_simple(traced, call) else []
        elif run and call.parent == run[0].parent and _continues(traced, run[-1], call):
            run = [*run, call]
        else:
            yield run
            run = []
    yield run


def _units_of_work(
    traced: TraceIndex, heavy: list[int], outside: Collection[Call]
) -> Iterator[Call]:
    """Yield the outermost calls with at most one product, in order of execution."""
    end = 0
    for call in traced.trace.calls:
        taken = any(o.start <= call.start and call.end <= o.end for o in outside)
        if call.start < end or call.end == call.start or not call.name or taken:
            continue
        if _products(call, heavy) <= 1:
            end = call.end
            yield call


def _products(call: Call, heavy: list[int]) -> int:
    return sum(call.start <= index < call.end for index in heavy)


def _is_simple(traced: TraceIndex, call: Call) -> bool:
    one = len({value for _, value in call.inputs}) == 1 and len(call.outputs) == 1
    return one and traced.counts[call.name] == 1


def _continues(traced: TraceIndex, before: Call, call: Call) -> bool:
    """Tell whether a call takes over the output of the one before, and nobody else does."""
    if not _is_simple(traced, call):
        return False
    value = before.outputs[0][1]
    readers = traced.readers(value)
    return call.inputs[0][1] == value and all(call.start <= r < call.end for r in readers)


def _keeps_shape(traced: TraceIndex, run: list[Call]) -> bool:
    source, sink = run[0].inputs[0][1], run[-1].outputs[0][1]
    trace = traced.trace
    light = all(
        short(trace.ops[index]) in LIGHT_AFTER
        for call in run[1:]
        for index in range(call.start, call.end)
    )
    same = trace.shapes[source] == trace.shapes[sink] and trace.dtypes[source] == trace.dtypes[sink]
    return same and light and trace.dtypes[source].is_floating_point
