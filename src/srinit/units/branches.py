"""Chooses which additions are units of their own, and names them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from srinit.errors import SurgeryError
from srinit.recording import Call, Facts, Merge
from srinit.units.bypass import Rewritten, rewrite
from srinit.units.describe import branch_unit, locked, locked_unit, zeroed_unit
from srinit.units.records import Kind, LockedUnit, Unit


def branches(
    facts: Facts,
    merges: Iterable[Merge],
    *,
    outside: Collection[Call],
    kind: Kind,
    rewritten: Rewritten,
) -> tuple[list[Unit], list[LockedUnit]]:
    """Return the units that additions outside of some calls make, and those that are locked.

    Where one addition lies inside the branch of another, the outer one is the unit unless its
    branch holds several.

    Args:
        facts: The recorded forward.
        merges: All additions with a branch.
        outside: Calls whose additions belong to other units already.
        kind: "branch" or "sublayer".
        rewritten: Gets the sites without their branches, for the trial runs.
    """
    free = [
        merge
        for merge in merges
        if not any(call.start <= merge.op < call.end for call in outside)
        and not any(call.start in merge.dead for call in outside)
    ]
    chosen = _outermost(free)
    per_site = Counter(merge.site.number for merge in chosen)
    units: list[Unit] = []
    locks: list[LockedUnit] = []
    for merge in chosen:
        parts = (*merge.parts, *merge.outside)
        heaviest = max(parts, key=lambda part: facts.saved_params([part]))
        alone = per_site[merge.site.number] == 1 and merge.site.name and merge.parts
        name = merge.site.name if alone and not _holds_others(facts, merge, outside) else heaviest
        if merge.gate:
            detail = (
                f"the sum that it ends in weighs the shortcut by what {merge.gate} makes, and it "
                "cannot be proved that the weights add up to one; without it the network would go "
                "on with a scaled value"
            )
            locks.append(locked_unit(facts, name or heaviest, "gated", detail, kind=kind))
            continue
        often = [part for part in (name, *parts) if facts.counts[part] > 1]
        if often:
            times = facts.counts[often[0]]
            detail = f"called {times} times in one forward with the same weights; all or none goes"
            locks.append(locked_unit(facts, often[0], "shared", detail, kind=kind))
            continue
        found = _readable(facts, merge, branch_unit(facts, merge, name, kind), rewritten)
        if isinstance(found, Unit):
            units.append(found)
        else:
            locks.append(found)
    seen: dict[str, LockedUnit] = {lock.name: lock for lock in locks}
    return units, list(seen.values())


def named_by_part(
    facts: Facts, merges: Iterable[Merge], name: str, rewritten: Rewritten
) -> Unit | None:
    """Return the branch whose heaviest part has a name, as a unit of that name, or None."""
    for merge in merges:
        parts = (*merge.parts, *merge.outside)
        often = any(facts.counts[part] > 1 for part in parts)
        if merge.gate or often or name != max(parts, key=lambda p: facts.saved_params([p])):
            continue
        found = _readable(facts, merge, branch_unit(facts, merge, name, "branch"), rewritten)
        if isinstance(found, Unit):
            return found
    return None


def _outermost(merges: list[Merge]) -> list[Merge]:
    chosen: list[Merge] = []
    for merge in sorted(merges, key=lambda m: len(m.dead)):
        inner = [other for other in chosen if other.op in merge.dead]
        if len(inner) > 1:
            continue
        chosen = [other for other in chosen if other not in inner]
        chosen.append(merge)
    return sorted(chosen, key=lambda m: m.op)


def _holds_others(facts: Facts, merge: Merge, outside: Collection[Call]) -> bool:
    site = merge.site
    return any(site.start <= call.start and call.end <= site.end for call in outside)


def _readable(facts: Facts, merge: Merge, unit: Unit, rewritten: Rewritten) -> Unit | LockedUnit:
    """Return the unit, its form with zeros where the site's code cannot be rewritten, or a lock."""
    try:
        rewrite(facts.model, unit, rewritten)
    except SurgeryError as error:
        zeroed = zeroed_unit(facts, merge, unit)
        if zeroed is not None:
            return zeroed
        if merge.gated:
            detail = f"it ends in a gated sum, which cannot be taken out as a whole: {error}"
            return locked(unit, "gated", detail)
        detail = f"its branch cannot be taken out: {error}"
        return locked(unit, "verification failed", detail)
    return unit
