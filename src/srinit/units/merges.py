"""Additions that join a branch with parameters to a lighter shortcut, wherever they stand.

The module that executes the addition (its site) may be a block that changes the shape, a
transformer layer with two of them, or the forward of the whole network.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from srinit.units.facts import Facts
from srinit.units.rule import ADDITIONS, NORMS, SCALES, SHAPE_KEPT, VIEWS, short
from srinit.units.trace import Call

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
class Merge:
    """One addition: the shortcut stays, the branch can go."""

    op: int
    site: Call  # its own forward executes the addition
    skip: int  # value that stays
    dead: frozenset[int]  # operations that nobody needs without the branch
    parts: tuple[str, ...]  # outermost modules with parameters that die, called by the site
    outside: tuple[str, ...]  # the same, called elsewhere


def find_merges(facts: Facts) -> list[Merge]:
    """Return the additions whose one side can go, in order of execution."""
    found = []
    for index, op in enumerate(facts.trace.ops):
        if short(op) not in ADDITIONS or len(op.inputs) != 2 or op.inputs[0] == op.inputs[1]:
            continue
        site = facts.trace.calls[facts.owner[index]]
        one, other = op.inputs
        merge = _merge(facts, index, site, one, other) or _merge(facts, index, site, other, one)
        if merge is not None:
            found.append(merge)
    return found


def _merge(facts: Facts, index: int, site: Call, skip: int, branch: int) -> Merge | None:
    out = facts.trace.ops[index].outputs
    if not out or facts.trace.shapes[skip] != facts.trace.shapes[out[0]]:
        return None
    dead = dead_without(facts, branch, index)
    weight = sum(facts.heavy(k) for k in dead)
    if weight == 0:
        return None
    projection = sum(facts.heavy(k) for k in dead_without(facts, skip, index))
    if projection > MAX_PROJECTION or projection >= weight:
        return None
    entries = {value for k in dead for value in facts.trace.ops[k].inputs}
    if not _shortcut_reaches(facts, skip, entries):
        return None
    parts, outside = _dead_modules(facts, site, dead)
    if not parts and not outside:
        return None
    return Merge(index, site, skip, dead, parts, outside)


def dead_without(facts: Facts, value: int, reader: int) -> frozenset[int]:
    """Return the operations that serve only `reader`'s reading of `value`."""
    dead: set[int] = set()
    waiting = [-made] if (made := facts.trace.maker[value]) is not None else []
    seen = set(waiting)
    while waiting:
        index = -heapq.heappop(waiting)  # latest first, so all its readers are decided
        op = facts.trace.ops[index]
        needed = any(
            out in facts.final
            or any(not (r in dead or (r == reader and out == value)) for r in facts.readers(out))
            for out in op.outputs
        )
        if needed:
            continue
        dead.add(index)
        for source in op.inputs:
            made = facts.trace.maker[source]
            if made is not None and -made not in seen:
                seen.add(-made)
                heapq.heappush(waiting, -made)
    return frozenset(dead)


def _shortcut_reaches(facts: Facts, skip: int, entries: set[int]) -> bool:
    """Tell whether light operations lead from an entry of the branch to the shortcut's end."""
    best: dict[int, int] = {}
    waiting = [(skip, 0)]
    while waiting:
        value, products = waiting.pop()
        if value in entries and value not in facts.weights:
            return True
        if best.get(value, MAX_PROJECTION + 1) <= products:
            continue
        best[value] = products
        made = facts.trace.maker[value]
        if made is None:
            continue
        op = facts.trace.ops[made]
        products += facts.heavy(made)
        if (facts.heavy(made) or short(op) in LIGHT) and products <= MAX_PROJECTION:
            waiting += [(source, products) for source in op.inputs if source not in facts.weights]
    return False


def _dead_modules(
    facts: Facts, site: Call, dead: frozenset[int]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the outermost modules with parameters all of whose work is dead."""
    numbers = {n for k in dead for n in facts.chain(facts.owner[k])}
    around = set(facts.chain(site.number))
    gone: list[Call] = []
    for number in sorted(numbers - around):
        call = facts.trace.calls[number]
        if any(_inside(call, other) for other in gone) or not facts.has_params(call.name):
            continue
        if all(k in dead or not _needed(facts, k) for k in range(call.start, call.end)):
            gone.append(call)
    inside = [c.name for c in gone if c.parent == site.number]
    outside = [c.name for c in gone if c.parent != site.number]
    return tuple(inside), tuple(outside)


def _needed(facts: Facts, index: int) -> bool:
    op = facts.trace.ops[index]
    return any(facts.readers(out) or out in facts.final for out in op.outputs)


def _inside(call: Call, other: Call) -> bool:
    return other.start <= call.start and call.end <= other.end and other.number < call.number
