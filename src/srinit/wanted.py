"""What a plan is asked for, held against the units that there are: names, numbers, runs."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from srinit.errors import PlanError
from srinit.units.records import Unit, UnitMap


def check_names(units: UnitMap, named: Sequence[str], keep: Sequence[str]) -> None:
    """Raise `PlanError` for names of no units, of locked ones, or named against each other."""
    locked = {unit.name: unit for unit in units.locked}
    problems = []
    for name in named:
        if name in locked and name not in units.names:
            problems.append(f"{name!r} is locked ({locked[name].reason}): {locked[name].detail}")
        elif name not in units.names:
            problems.append(f"there is no unit {name!r}{nearest(name, units.names)}")
        elif name in keep:
            problems.append(f"{name!r} is both in remove and in keep")
    everything = (*units.names, *locked)
    problems += [
        f"keep names {name!r}, which is no unit{nearest(name, everything)}"
        for name in keep
        if name not in everything
    ]
    if len(set(named)) != len(named):
        problems.append("a unit is named twice in remove")
    if problems:
        raise PlanError("the plan cannot be made: " + "; ".join(problems))


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the name that a wrong one comes nearest to, in brackets; empty where there is none."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)
    return f" (nearest: {close[0]!r})" if close else ""


def check_numbers(
    units: int | None, named: Sequence[str], budgets: Collection[str], *, contiguous: bool
) -> None:
    """Raise `PlanError` for a number of units that contradicts what else is asked for."""
    if units is not None and units < 0:
        raise PlanError(f"units={units} cannot go; give a number of units.")
    if units is not None and len(named) > units:
        raise PlanError(f"remove names {len(named)} units, and units={units} go: keep one of them.")
    if not contiguous:
        return
    if units is None:
        raise PlanError("contiguous needs to know how many units go: give units.")
    beside = ["remove"] if named else sorted(budgets)
    if beside:
        raise PlanError(
            f"contiguous chooses all {units} units at once; {beside[0]} would choose others: keep "
            "one of them."
        )


def enough(units: int, allowed: int, possible: int) -> int:
    """Return how many units go, where so many may.

    Raises:
        PlanError: Fewer may.
    """
    if units <= allowed:
        return units
    within = f" within max_drop {allowed}" if allowed < possible else ""
    raise PlanError(
        f"{units} units are to go, and of {possible} that may go{within or ' there are no more'}. "
        "Ask for fewer, or shorten keep; the last unit of a stage stays unless it is named."
    )


def ends(units: UnitMap, first: int, last: int) -> tuple[str, ...]:
    """Return the names of the first and the last units that may go, by order of execution.

    Raises:
        PlanError: A number is negative.
    """
    if first < 0 or last < 0:
        raise PlanError(f"keep_first and keep_last are numbers of units, not {min(first, last)}.")
    names = [unit.name for unit in sorted(units.removable, key=lambda unit: unit.position)]
    return (*names[:first], *names[max(first, len(names) - last) :]) if last else (*names[:first],)


def best_run(
    units: UnitMap,
    values: Mapping[str, float | None],
    free: Collection[str],
    count: int,
    *,
    empty_stages: bool,
) -> tuple[str, ...]:
    """Return the units of the run with the lowest sum of values, the lowest first.

    Args:
        units: All units.
        values: What each is ranked by.
        free: Those that may go.
        count: Units of a run: they follow one another in one stage, with no other unit between.
        empty_stages: A run may be a whole stage.

    Raises:
        PlanError: There is no such run.
    """
    there = Counter(unit.stage for unit in units.removable)
    there.update(unit.stage for unit in units.locked)
    runs = _runs([unit for unit in units.removable if unit.name in set(free)])
    found: list[tuple[float, int, list[Unit]]] = []
    for run in runs:
        whole = len(run) == there[run[0].stage] and bool(run[0].stage)
        for begin in range(len(run) - count + 1):
            window = run[begin : begin + count]
            if count < len(run) or empty_stages or not whole:
                total = sum(values[unit.name] or 0.0 for unit in window)
                found.append((total, window[0].position, window))
    if not found:
        longest = max(map(len, runs), default=0)
        raise PlanError(
            f"no {count} units that may go follow one another; the longest run has {longest}. Ask "
            "for fewer, or shorten keep; a stage keeps one unit."
        )
    chosen = min(found, key=lambda each: each[:2])[2]
    ranked = sorted(chosen, key=lambda unit: (values[unit.name] or 0.0, unit.position))
    return tuple(unit.name for unit in ranked)


def _runs(free: Sequence[Unit]) -> list[list[Unit]]:
    """Return the units in runs: neighbors in execution that belong to one stage."""
    runs: list[list[Unit]] = []
    for unit in sorted(free, key=lambda unit: unit.position):
        last = runs[-1][-1] if runs else None
        if last is not None and unit.position == last.position + 1 and unit.stage == last.stage:
            runs[-1].append(unit)
        else:
            runs.append([unit])
    return runs
