"""Chooses which additions are units of their own, and names them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from srinit.errors import SurgeryError
from srinit.recording import Call, ResidualAdd, TraceIndex
from srinit.units.bypass import RewriteCache, rewrite
from srinit.units.describe import branch_unit, locked, locked_unit, zeroed_unit
from srinit.units.records import Kind, LockedUnit, Unit


def branches(
    traced: TraceIndex,
    additions: Iterable[ResidualAdd],
    *,
    outside: Collection[Call],
    kind: Kind,
    rewrites: RewriteCache,
) -> tuple[list[Unit], list[LockedUnit]]:
    """Return the units that additions outside of some calls make, and those that are locked.

    Where one addition lies inside the branch of another, the outer one is the unit unless its
    branch holds several.

    Args:
        traced: The recorded forward.
        additions: All additions with a branch.
        outside: Calls whose additions belong to other units already.
        kind: "branch" or "sublayer".
        rewrites: Gets the sites without their branches, for the trial runs.
    """
    free = [
        addition
        for addition in additions
        if not any(call.start <= addition.op < call.end for call in outside)
        and not any(call.start in addition.dead for call in outside)
    ]
    chosen = _outermost(free)
    per_site = Counter(addition.site.number for addition in chosen)
    units: list[Unit] = []
    locks: list[LockedUnit] = []
    for addition in chosen:
        parts = (*addition.parts, *addition.outside)
        heaviest = max(parts, key=lambda part: traced.saved_params([part]))
        alone = per_site[addition.site.number] == 1 and addition.site.name and addition.parts
        name = (
            addition.site.name
            if alone and not _holds_others(traced, addition, outside)
            else heaviest
        )
        if addition.gate:
            detail = (
                f"the sum that it ends in weighs the shortcut by what {addition.gate} makes, and "
                "it cannot be proved that the weights add up to one; without it the network would "
                "go on with a scaled value"
            )
            locks.append(locked_unit(traced, name or heaviest, "gated", detail, kind=kind))
            continue
        often = [part for part in (name, *parts) if traced.counts[part] > 1]
        if often:
            times = traced.counts[often[0]]
            detail = f"called {times} times in one forward with the same weights; all or none goes"
            locks.append(locked_unit(traced, often[0], "shared", detail, kind=kind))
            continue
        found = _readable(traced, addition, branch_unit(traced, addition, name, kind), rewrites)
        if isinstance(found, Unit):
            units.append(found)
        else:
            locks.append(found)
    seen: dict[str, LockedUnit] = {lock.name: lock for lock in locks}
    return units, list(seen.values())


def named_by_part(
    traced: TraceIndex, additions: Iterable[ResidualAdd], name: str, rewrites: RewriteCache
) -> Unit | None:
    """Return the branch whose heaviest part has a name, as a unit of that name, or None."""
    for addition in additions:
        parts = (*addition.parts, *addition.outside)
        often = any(traced.counts[part] > 1 for part in parts)
        if addition.gate or often or name != max(parts, key=lambda p: traced.saved_params([p])):
            continue
        found = _readable(traced, addition, branch_unit(traced, addition, name, "branch"), rewrites)
        if isinstance(found, Unit):
            return found
    return None


def _outermost(additions: list[ResidualAdd]) -> list[ResidualAdd]:
    chosen: list[ResidualAdd] = []
    for addition in sorted(additions, key=lambda m: len(m.dead)):
        inner = [other for other in chosen if other.op in addition.dead]
        if len(inner) > 1:
            continue
        chosen = [other for other in chosen if other not in inner]
        chosen.append(addition)
    return sorted(chosen, key=lambda m: m.op)


def _holds_others(traced: TraceIndex, addition: ResidualAdd, outside: Collection[Call]) -> bool:
    site = addition.site
    return any(site.start <= call.start and call.end <= site.end for call in outside)


def _readable(
    traced: TraceIndex, addition: ResidualAdd, unit: Unit, rewrites: RewriteCache
) -> Unit | LockedUnit:
    """Return the unit, its form with zeros where the site's code cannot be rewritten, or a lock."""
    try:
        rewrite(traced.model, unit, rewrites)
    except SurgeryError as error:
        zeroed = zeroed_unit(traced, addition, unit)
        if zeroed is not None:
            return zeroed
        if addition.gated:
            detail = f"it ends in a gated sum, which cannot be taken out as a whole: {error}"
            return locked(unit, "gated", detail)
        detail = f"its branch cannot be taken out: {error}"
        return locked(unit, "verification failed", detail)
    return unit
