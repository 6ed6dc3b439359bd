"""`scheme="auto"`: a short trial of several perturbations chooses the one that tells units apart.

The measure is a reliability coefficient as in test theory: the share of the variance of the
units' estimated drops that is due to the units and not to the draws and examples at hand.
https://en.wikipedia.org/wiki/Reliability_(statistics)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from srinit.records import record
from srinit.reinit import RuleScheme, find_scheme
from srinit.sensitivity.drawing import Perturbation
from srinit.sensitivity.examples import Batch
from srinit.sensitivity.journal import Journal
from srinit.sensitivity.outcomes import Rows
from srinit.sensitivity.records import SchemeTrial
from srinit.sensitivity.setup import Setup
from srinit.sensitivity.tally import Goal, Tally

CANDIDATES = (
    Perturbation(scheme="keep_norm"),
    Perturbation(scheme="keep_norm", scale=0.5),
    Perturbation(scheme="matched"),
    Perturbation(scheme="permuted"),
    Perturbation(scheme="default"),
)
EXAMPLES = 32  # a candidate and unit
PER_DRAW = 2
CEILING = 0.9  # share of the baseline's score above chance, lost: nothing is left to tell
FLOOR = 1e-9  # largest drop in any draw that counts as no effect at all


@record
class Trial:
    """One candidate's pilot: its figures, and the variances that the scan's design needs."""

    perturbation: Perturbation
    reliability: float | None
    saturated: float  # share of units at floor or ceiling, or with broken outputs
    measured: int  # units that it can be applied to

    @property
    def merit(self) -> float:
        """What the choice goes by: reliability, times the share of units not saturated."""
        return (self.reliability or 0.0) * (1 - self.saturated)


@record
class Choice:
    """What is drawn, and why."""

    perturbation: Perturbation
    trials: tuple[SchemeTrial, ...] = ()
    reason: str


def choose_scheme(setup: Setup, journal: Journal) -> Choice:
    """Return the scheme that was asked for, or after trials the best one.

    Trials are in the journal. Where data are many, the examples of the trials are taken out of
    the setup's order, so that nothing is chosen on examples that are then measured.
    """
    settings = setup.settings
    if settings.scheme != "auto":
        scheme = find_scheme(settings.scheme)
        reason = scheme.note if isinstance(scheme, RuleScheme) else "given by the caller"
        chosen = Perturbation(scheme=settings.scheme, scale=settings.scale)
        return Choice(perturbation=chosen, reason=reason)
    lines = [line for line in journal.lines if "pilot" in line]
    if len(lines) < len(CANDIDATES):
        lines = _try_candidates(setup, lines, journal)
    trials = [_trial(line, each) for line, each in zip(lines, CANDIDATES, strict=True)]
    best, reason = choose(trials)
    if len(setup.order) >= 20 * EXAMPLES:
        setup.order = setup.order[:-EXAMPLES]
    return Choice(perturbation=best.perturbation, trials=records_of(trials, best), reason=reason)


def _try_candidates(
    setup: Setup, lines: list[dict[str, Any]], journal: Journal
) -> list[dict[str, Any]]:
    batch = next(setup.examples.read([setup.order[-EXAMPLES:]]))
    ranks = setup.ranks
    for index in range(len(lines), len(CANDIDATES), ranks.count):
        number = index + ranks.rank
        mine = _pilot_line(setup, batch, number) if number < len(CANDIDATES) else None
        fresh = [line for line in ranks.gather(mine) if line is not None]
        if ranks.rank == 0:
            journal.append(fresh)
        lines = [*lines, *fresh]
    return lines


def _pilot_line(setup: Setup, batch: Batch, number: int) -> dict[str, Any]:
    candidate = CANDIDATES[number]
    problems = setup.bench.check(candidate)
    active = {t.name: PER_DRAW for t in setup.targets if t.name not in problems}
    found = setup.bench.measure(batch, number, active, candidate, purpose="pilot")
    return {
        "pilot": number,
        "baseline": found.baseline.to_line(),
        "units": {name: rows.to_line() for name, (rows,) in found.units.items()},
    }


def _trial(line: dict[str, Any], candidate: Perturbation) -> Trial:
    baseline = Rows.from_line(line["baseline"])
    goal = Goal(half_width=None, confidence=0.95, num_units=1)
    tallies = {}
    for name, rows in line["units"].items():
        tallies[name] = Tally(name, removable=True, goal=goal, interval=False)
        tallies[name].add(baseline, Rows.from_line(rows), None, PER_DRAW, EXAMPLES)
    classes = len(set(baseline.predictions or ())) or 1
    chance = 1 / classes if classes > 1 else 0.0
    score = sum(baseline.scores) / len(baseline.scores)
    return judge(candidate, tallies, score, chance)


def judge(
    perturbation: Perturbation,
    tallies: Mapping[str, Tally],
    baseline: float,
    chance: float,
) -> Trial:
    """Return the figures of one candidate.

    Args:
        perturbation: The candidate.
        tallies: Its observations, by unit.
        baseline: The baseline's score on the same examples.
        chance: Score of guessing.
    """
    measured = [tally for tally in tallies.values() if tally.drops]
    means = np.asarray([np.mean(tally.drops) for tally in measured])
    if len(measured) < 2:
        return Trial(
            perturbation=perturbation, reliability=None, saturated=1.0, measured=len(measured)
        )
    noise = np.mean([np.var(tally.drops, ddof=1) / len(tally.drops) for tally in measured])
    total = float(np.var(means, ddof=1))
    between = max(total - float(noise), 0.0)
    room = max(baseline - chance, 1e-9)
    saturated = [
        tally.looks_collapsed
        or mean >= CEILING * room
        or max(abs(drop) for drop in tally.drops) <= FLOOR
        for tally, mean in zip(measured, means, strict=True)
    ]
    return Trial(
        perturbation=perturbation,
        reliability=between / total if total > 0 else 0.0,
        saturated=float(np.mean(saturated)),
        measured=len(measured),
    )


def choose(trials: list[Trial]) -> tuple[Trial, str]:
    """Return the best candidate, and why, in words."""
    most = max(trial.measured for trial in trials)
    able = [trial for trial in trials if trial.measured == most]
    best = max(able, key=lambda trial: trial.merit)
    others = sorted((t for t in trials if t is not best), key=lambda t: -t.merit)
    words = ", ".join(f"{_title(t.perturbation)} {_percent(t.reliability)}" for t in others)
    return best, (
        f"{_title(best.perturbation)} tells the units apart best: {_percent(best.reliability)} "
        f"of the variance between units in the pilot is due to the units, and "
        f"{best.saturated:.0%} of them are at floor or ceiling; runners-up: {words}"
    )


def records_of(trials: list[Trial], chosen: Trial) -> tuple[SchemeTrial, ...]:
    """Return the trials for the scan's record, best first."""
    return tuple(
        SchemeTrial(
            scheme=trial.perturbation.name,
            scale=trial.perturbation.scale,
            reliability=trial.reliability,
            saturated=trial.saturated,
            chosen=trial is chosen,
        )
        for trial in sorted(trials, key=lambda trial: -trial.merit)
    )


def _title(perturbation: Perturbation) -> str:
    scale = "" if perturbation.scale == 1 else f" at scale {perturbation.scale:g}"
    return f"{perturbation.name}{scale}"


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0%}"
