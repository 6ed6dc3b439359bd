"""`scheme="auto"`: a short trial of several perturbations chooses the one that tells units apart.

The measure is a reliability coefficient as in test theory: the share of the variance of the
units' estimated drops that is due to the units and not to the draws and examples at hand.
https://en.wikipedia.org/wiki/Reliability_(statistics)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from srinit.engine import Batch, BatchOutcomes, Perturbation, Target
from srinit.records import Interval, record
from srinit.reinit import RuleScheme, find_scheme
from srinit.sensitivity.drop_estimator import DropEstimator, StoppingRule
from srinit.sensitivity.journal import Journal
from srinit.sensitivity.records import SchemeTrial
from srinit.sensitivity.setup import Setup

CANDIDATES = (
    Perturbation(scheme="keep_norm"),
    Perturbation(scheme="keep_norm", scale=0.5),
    Perturbation(scheme="matched"),
    Perturbation(scheme="permuted"),
    Perturbation(scheme="default"),
)
EXAMPLES = 32  # a candidate and unit
PER_DRAW = 2
FEW = 16  # units, with locked ones, that are all tried
SAMPLE = 12  # of more: removable units, evenly spread over the network
SEEDED = "pilot"  # a name that the seeds derive from; another one would be other draws
CERTAIN = 0.95  # of an interval of a score
RESAMPLES = 500  # of the units tried, for the uncertainty of the choice
CEILING = 0.9  # share of the baseline's score above chance, lost: nothing is left to tell
FLOOR = 1e-9  # largest drop in any draw that counts as no effect at all


@record
class Figures:
    """What a scheme selection saw of each unit under one candidate; entries belong to units."""

    means: tuple[float, ...]  # mean drop
    noises: tuple[float, ...]  # variance of that mean
    saturated: tuple[bool, ...]  # at floor or ceiling, or with broken outputs

    def score(self, chosen: npt.NDArray[np.int64] | None = None) -> tuple[float, float]:
        """Return reliability and share of saturated units; of some units, if they are chosen."""
        every = np.arange(len(self.means)) if chosen is None else chosen
        total = float(np.var(np.asarray(self.means)[every], ddof=1))
        noise = float(np.mean(np.asarray(self.noises)[every]))
        reliability = max(total - noise, 0.0) / total if total > 0 else 0.0
        return reliability, float(np.mean(np.asarray(self.saturated)[every]))


@record
class Trial:
    """One candidate of the selection."""

    perturbation: Perturbation
    reliability: float | None
    saturated: float  # share of units at floor or ceiling, or with broken outputs
    measured: int  # units that it can be applied to, of those tried
    figures: Figures | None = None  # None: too few units

    @property
    def score(self) -> float:
        """What the choice goes by: reliability, times the share of units not saturated."""
        return (self.reliability or 0.0) * (1 - self.saturated)


@record
class Choice:
    """What is drawn, and why."""

    perturbation: Perturbation
    trials: tuple[SchemeTrial, ...] = ()
    reason: str
    certainty: float | None = None  # share of resamples of the units with the same choice


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
    lines = [line for line in journal.lines if "scheme_selection" in line]
    if len(lines) < len(CANDIDATES):
        lines = _try_candidates(setup, lines, journal)
    trials = [_trial(line, each) for line, each in zip(lines, CANDIDATES, strict=True)]
    best, reason = choose(trials)
    certainty, ends = _uncertainty(trials, best)
    tried = max(trial.measured for trial in trials)
    reason += f"; tried on {tried} of {len(setup.targets)} units"
    if certainty is not None:
        reason += f", and chosen in {certainty:.0%} of {RESAMPLES} resamples of them"
    if len(setup.order) >= 20 * EXAMPLES:
        setup.order = setup.order[:-EXAMPLES]
    return Choice(
        perturbation=best.perturbation,
        trials=records_of(trials, best, ends),
        reason=reason,
        certainty=certainty,
    )


def sample_of(targets: Sequence[Target]) -> tuple[str, ...]:
    """Return the units that the selection tries: all of few, of many some evenly spread ones.

    Example:
        >>> len(sample_of([Target(name=f"block{number}") for number in range(90)]))
        12
    """
    removable = [target.name for target in targets if target.removable]
    if len(targets) <= FEW or len(removable) < 2:
        return tuple(target.name for target in targets)
    places = np.linspace(0, len(removable) - 1, min(SAMPLE, len(removable))).round()
    return tuple(removable[int(place)] for place in places)


def _try_candidates(
    setup: Setup, lines: list[dict[str, Any]], journal: Journal
) -> list[dict[str, Any]]:
    batch = next(setup.examples.read([setup.order[-EXAMPLES:]]))
    ranks = setup.ranks
    for index in range(len(lines), len(CANDIDATES), ranks.count):
        number = index + ranks.rank
        mine = _selection_line(setup, batch, number) if number < len(CANDIDATES) else None
        fresh = [line for line in ranks.gather(mine) if line is not None]
        if ranks.rank == 0:
            journal.append(fresh)
        lines = [*lines, *fresh]
    return lines


def _selection_line(setup: Setup, batch: Batch, number: int) -> dict[str, Any]:
    candidate = CANDIDATES[number]
    tried = sample_of(setup.targets)
    problems = setup.bench.check(candidate, tried)
    active = {name: PER_DRAW for name in tried if name not in problems}
    found = setup.bench.measure(batch, number, active, candidate, purpose=SEEDED)
    return {
        "scheme_selection": number,
        "baseline": found.baseline.to_line(),
        "units": {name: rows.to_line() for name, (rows,) in found.units.items()},
    }


def _trial(line: dict[str, Any], candidate: Perturbation) -> Trial:
    baseline = BatchOutcomes.from_line(line["baseline"])
    rule = StoppingRule(half_width=None, confidence=0.95, num_units=1)
    estimators = {}
    for name, rows in line["units"].items():
        estimators[name] = DropEstimator(name, removable=True, rule=rule, interval=False)
        estimators[name].add(baseline, BatchOutcomes.from_line(rows), None, PER_DRAW, EXAMPLES)
    classes = len(set(baseline.predictions or ())) or 1
    chance = 1 / classes if classes > 1 else 0.0
    score = sum(baseline.scores) / len(baseline.scores)
    return judge(candidate, estimators, score, chance)


def judge(
    perturbation: Perturbation,
    estimators: Mapping[str, DropEstimator],
    baseline: float,
    chance: float,
) -> Trial:
    """Return the figures of one candidate.

    Args:
        perturbation: The candidate.
        estimators: Its observations, by unit.
        baseline: The baseline's score on the same examples.
        chance: Score of guessing.
    """
    measured = [estimator for estimator in estimators.values() if estimator.drops]
    if len(measured) < 2:
        return Trial(
            perturbation=perturbation, reliability=None, saturated=1.0, measured=len(measured)
        )
    room = max(baseline - chance, 1e-9)
    figures = Figures(
        means=tuple(estimator.mean for estimator in measured),
        noises=tuple(
            float(np.var(estimator.drops, ddof=1)) / len(estimator.drops) for estimator in measured
        ),
        saturated=tuple(
            estimator.looks_collapsed
            or estimator.mean >= CEILING * room
            or max(abs(drop) for drop in estimator.drops) <= FLOOR
            for estimator in measured
        ),
    )
    reliability, saturated = figures.score()
    return Trial(
        perturbation=perturbation,
        reliability=reliability,
        saturated=saturated,
        measured=len(measured),
        figures=figures,
    )


def _uncertainty(trials: Sequence[Trial], best: Trial) -> tuple[float | None, dict[int, Interval]]:
    """Return how often the choice is the same on resampled units, and 95 % of each score.

    A bootstrap over units, the same ones for all candidates that apply to all of them.
    """
    able = {i: t for i, t in enumerate(trials) if t.measured == best.measured}
    if best.figures is None:
        return None, {}
    random = np.random.default_rng(0)
    rows = []
    for _ in range(RESAMPLES):
        chosen = random.integers(0, best.measured, best.measured)
        found = (t.figures.score(chosen) for t in able.values() if t.figures is not None)
        rows.append([reliability * (1 - saturated) for reliability, saturated in found])
    scores = np.asarray(rows)
    place = [trial is best for trial in able.values()].index(True)
    certainty = float(np.mean(scores.argmax(1) == place))
    low, high = np.quantile(scores, [0.025, 0.975], axis=0)
    ends = zip(able.items(), low.tolist(), high.tolist(), strict=True)
    return certainty, {
        index: Interval(value=trial.score, low=down, high=up, confidence=CERTAIN)
        for (index, trial), down, up in ends
    }


def choose(trials: list[Trial]) -> tuple[Trial, str]:
    """Return the best candidate, and why, in words."""
    most = max(trial.measured for trial in trials)
    able = [trial for trial in trials if trial.measured == most]
    best = max(able, key=lambda trial: trial.score)
    others = sorted((t for t in trials if t is not best), key=lambda t: -t.score)
    words = ", ".join(f"{_title(t.perturbation)} {_percent(t.reliability)}" for t in others)
    return best, (
        f"{_title(best.perturbation)} tells the units apart best: {_percent(best.reliability)} "
        f"of the variance between units in the selection is due to the units, and "
        f"{best.saturated:.0%} of them are at floor or ceiling; runners-up: {words}"
    )


def records_of(
    trials: list[Trial], chosen: Trial, scores: Mapping[int, Interval]
) -> tuple[SchemeTrial, ...]:
    """Return the trials for the scan's record, best first, with the intervals of their scores."""
    order = sorted(range(len(trials)), key=lambda index: -trials[index].score)
    return tuple(
        SchemeTrial(
            scheme=trial.perturbation.name,
            scale=trial.perturbation.scale,
            reliability=trial.reliability,
            saturated=trial.saturated,
            chosen=trial is chosen,
            num_units=trial.measured,
            score=scores.get(index),
        )
        for index in order
        for trial in (trials[index],)
    )


def _title(perturbation: Perturbation) -> str:
    scale = "" if perturbation.scale == 1 else f" at scale {perturbation.scale:g}"
    return f"{perturbation.name}{scale}"


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0%}"
