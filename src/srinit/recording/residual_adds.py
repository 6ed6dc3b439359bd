"""Additions that join a branch with parameters to a lighter shortcut, wherever they stand.

The module that executes the addition (its site) may be a block that changes the shape, a
transformer layer with two of them, or the forward of the whole network.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from srinit.recording.operations import ADDITIONS, NORMS, SCALES, SHAPE_KEPT, VIEWS, short, stays
from srinit.recording.trace import Call
from srinit.recording.trace_index import TraceIndex

POOLS = frozenset(
    [
        "avg_pool2d",
        "avg_pool1d",
        "avg_pool3d",
        "mean",
        "_adaptive_avg_pool2d",
        "max_pool2d_with_indices",
        "max_pool2d",
        "max_pool3d_with_indices",
        "upsample_nearest2d",
        "upsample_bilinear2d",
        "upsample_bicubic2d",
        "_upsample_bilinear2d_aa",
        "upsample_nearest1d",
        "reflection_pad2d",
        "replication_pad2d",
        "pad",
        "cat",
    ]
)
LIGHT = VIEWS | SHAPE_KEPT | NORMS | SCALES | ADDITIONS | POOLS
MAX_PROJECTION = 1  # a shortcut may hold one convolution or linear map


@dataclass(frozen=True, slots=True)
class ResidualAdd:
    """One addition: the shortcut stays, the branch can go."""

    op: int
    site: Call  # its own forward executes the addition
    skip: int  # value that stays
    dead: frozenset[int]  # operations that nobody needs without the branch
    parts: tuple[str, ...]  # outermost modules with parameters that die, called by the site
    outside: tuple[str, ...]  # the same, called elsewhere
    gated: bool = False  # the whole sum goes, its gate too: its weights add up to one
    gate: str = ""  # what makes the weight of the shortcut, where no value could stay


def find_residual_adds(traced: TraceIndex) -> list[ResidualAdd]:
    """Return the additions whose one side can go, in order of execution."""
    found = []
    for index, op in enumerate(traced.trace.ops):
        site = traced.trace.calls[traced.owner[index]]
        if index in traced.trace.mixes:
            addition = _mixed(traced, index, site)
        elif short(op) not in ADDITIONS or len(op.inputs) < 2 or op.inputs[0] == op.inputs[1]:
            continue
        else:
            addition = next(
                filter(None, (_residual_add(traced, index, site, v) for v in op.inputs)), None
            )
        if addition is not None:
            found.append(addition)
    gated = [addition for addition in found if addition.gated]
    return [m for m in found if m.gated or not any(m.op in other.dead for other in gated)]


def _residual_add(traced: TraceIndex, index: int, site: Call, skip: int) -> ResidualAdd | None:
    op = traced.trace.ops[index]
    branch = [value for value in op.inputs if value != skip]
    out = op.outputs
    if not out or traced.trace.shapes[skip] != traced.trace.shapes[out[0]] or not stays(op, skip):
        return None
    dead = dead_without(traced, branch, index)
    weight = sum(traced.heavy(k) for k in dead)
    if weight == 0:
        return None
    entries = {value for k in dead for value in traced.trace.ops[k].inputs}
    shortcut = _shortcut(traced, skip, entries)
    if shortcut is None:
        return None
    gate = _gate_on(traced, *shortcut)
    projection = sum(traced.heavy(k) for k in dead_without(traced, [skip], index))
    if not gate and (projection > MAX_PROJECTION or projection >= weight):
        return None
    parts, outside = _dead_modules(traced, site, dead)
    if not parts and not outside:
        return None
    return ResidualAdd(index, site, skip, dead, parts, outside, gate=gate)


def _mixed(traced: TraceIndex, index: int, site: Call) -> ResidualAdd | None:
    """Return a gated sum whose whole can go, with what makes its gate."""
    found = traced.trace.mixes[index]
    op = traced.trace.ops[index]
    dead = dead_without(traced, op.inputs, index, keep=found.keep)
    if not any(traced.heavy(k) for k in dead):
        return None
    parts, outside = _dead_modules(traced, site, dead)
    if not parts and not outside:
        return None
    return ResidualAdd(index, site, found.keep, dead, parts, outside, gated=True)


def dead_without(
    traced: TraceIndex, values: Iterable[int], reader: int, *, keep: int | None = None
) -> frozenset[int]:
    """Return the operations that serve only `reader`'s reading of `values`.

    Args:
        traced: The recorded forward.
        values: What `reader` reads no more.
        reader: An operation.
        keep: A value that is needed in any case.
    """
    gone = set(values)
    made_by = {traced.trace.maker[value] for value in gone}
    waiting = [-made for made in made_by if made is not None]
    heapq.heapify(waiting)
    seen = set(waiting)
    dead: set[int] = set()
    while waiting:
        index = -heapq.heappop(waiting)  # latest first, so all its readers are decided
        op = traced.trace.ops[index]
        needed = any(
            out == keep
            or out in traced.final
            or any(
                not (r in dead or r in traced.useless or (r == reader and out in gone))
                for r in traced.readers(out)
            )
            for out in op.outputs
        )
        if needed:
            continue
        dead.add(index)
        for source in op.inputs:
            made = traced.trace.maker[source]
            if made is not None and -made not in seen:
                seen.add(-made)
                heapq.heappush(waiting, -made)
    return frozenset(dead)


def _shortcut(traced: TraceIndex, skip: int, entries: set[int]) -> tuple[int, list[int]] | None:
    """Return an entry of the branch, and the light operations from it to the shortcut's end."""
    best: dict[int, int] = {}
    waiting: list[tuple[int, int, int, list[int]]] = [(0, 0, skip, [])]  # fewest products first
    while waiting:
        products, steps, value, path = heapq.heappop(waiting)
        if value in entries and value not in traced.weights:
            return value, path
        if best.get(value, MAX_PROJECTION + 1) <= products:
            continue
        best[value] = products
        made = traced.trace.maker[value]
        if made is None:
            continue
        op = traced.trace.ops[made]
        products += traced.heavy(made)
        if (traced.heavy(made) or short(op) in LIGHT) and products <= MAX_PROJECTION:
            for source in op.inputs:
                if source not in traced.weights:
                    heapq.heappush(waiting, (products, steps + 1, source, [*path, made]))
    return None


def _gate_on(traced: TraceIndex, start: int, path: Iterable[int]) -> str:
    """Return the module that makes what the shortcut is scaled by; "" if it is not scaled so.

    A shortcut that products with parameters scale, such as the carry gate of a highway layer,
    is no value that the network has without the branch.
    """
    along = {value for index in path for value in traced.trace.ops[index].outputs} | {start}
    for index in path:
        if short(traced.trace.ops[index]) not in SCALES:
            continue
        waiting = [v for v in traced.trace.ops[index].inputs if v not in along]
        seen = set(waiting)
        while waiting:
            made = traced.trace.maker[waiting.pop()]
            if made is None:
                continue
            if traced.heavy(made):
                return traced.trace.calls[traced.owner[made]].name or "the network's own forward"
            fresh = [v for v in traced.trace.ops[made].inputs if v not in seen | along]
            seen.update(fresh)
            waiting += fresh
    return ""


def _dead_modules(
    traced: TraceIndex, site: Call, dead: frozenset[int]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the outermost modules with parameters all of whose work is dead."""
    numbers = {n for k in dead for n in traced.chain(traced.owner[k])}
    around = set(traced.chain(site.number))
    gone: list[Call] = []
    for number in sorted(numbers - around):
        call = traced.trace.calls[number]
        if any(_inside(call, other) for other in gone) or not traced.has_params(call.name):
            continue
        if all(k in dead or not _used(traced, k) for k in range(call.start, call.end)):
            gone.append(call)
    inside = [c.name for c in gone if c.parent == site.number]
    outside = [c.name for c in gone if c.parent != site.number]
    return tuple(inside), tuple(outside)


def _used(traced: TraceIndex, index: int) -> bool:
    """Tell whether an operation makes something that is used."""
    return bool(traced.trace.ops[index].outputs) and index not in traced.useless


def _inside(call: Call, other: Call) -> bool:
    return other.start <= call.start and call.end <= other.end and other.number < call.number
