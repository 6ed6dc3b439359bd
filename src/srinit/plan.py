"""Which units go, in which order, on what evidence: `make_plan` and the plan's JSON file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from srinit import records
from srinit.criteria import UnitScores, scores_of
from srinit.errors import PlanError, as_names
from srinit.records import Interval, record
from srinit.sensitivity.records import Sensitivity, unscanned
from srinit.tables import Shown, Table, removal_table
from srinit.units.records import Unit, UnitMap
from srinit.wanted import best_run, check_names, check_numbers, ends, enough

SCHEMA = "srinit.plan/2"
TIMES_SCHEMA = "srinit.plan-latency/1"
NAMES = "names"  # what a plan of units alone rests on
Rule = Literal["interval", "point"]


@record
class TrialEvidence:
    """What a trial removal on a copy showed, on calibration data."""

    cost: Interval  # score with the unit - score without, compensated and trained
    cut: float | None = None  # the cost right after the cut, where nothing was trained
    after: str = ""  # what was done after the cut: "realigned", "nothing", ...
    steps: int = 0  # of training
    num_examples: int = 0  # that `cost` was measured on
    cut_examples: int | None = None  # that `cut` was measured on


@record
class RemovalEvidence:
    """What is known of a removal: two drops of different kinds, and what ranks beside them."""

    reinit_drop: float | None = None  # the scan's: re-initialized, not removed
    interval: Interval | None = None  # of `reinit_drop`
    score: float | None = None  # by `PrunePlan.criterion`, where that is another one
    score_interval: Interval | None = None
    alone: TrialEvidence | None = None  # removed alone
    joint: TrialEvidence | None = None  # removed with all units before it

    @property
    def losses(self) -> dict[str, tuple[float | None, Interval | None]]:
        """What was measured, by its kind: "reinit", "alone", "joint"."""
        found = {"reinit": (self.reinit_drop, self.interval)}
        for kind, trial in (("alone", self.alone), ("joint", self.joint)):
            found[kind] = (None, None) if trial is None else (trial.cost.value, trial.cost)
        return found


@record
class Removal:
    """One unit that goes, and why."""

    unit: Unit
    evidence: RemovalEvidence = RemovalEvidence()


@record
class Prefix:
    """The network after the first `num_removed` removals of the ranking."""

    num_removed: int
    params: int
    flops: int  # per example; one multiply-add counts 2
    latency_ms: dict[str, float] | None = None  # median, by batch size ("1", "64")
    measured: bool = False  # True: the network was built and counted; False: summed over units
    # Of a latency that was not timed but lies between timed ones, by the times of the units: how
    # far such values were off where that could be checked, a fraction, by batch size.
    interpolated: dict[str, float | None] | None = None


@record
class PlanTimes:
    """What a clock said about the prefixes of a plan; apart, so that a plan is the same twice."""

    ranking: tuple[str, ...]  # of the plan that it belongs to
    latency_ms: tuple[dict[str, float] | None, ...]  # of each prefix: median, by batch size
    interpolated: tuple[dict[str, float | None] | None, ...] = ()  # see `Prefix`; None: timed
    timed_on: str = ""  # another runtime or device than PyTorch on that of the run

    def to_json(self) -> str:
        """Return the file form."""
        return records.to_json(self, schema=TIMES_SCHEMA)

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "the latencies") -> PlanTimes:
        """Return what `to_json` wrote.

        Raises:
            ConfigError: Something else.
        """
        return records.from_json(cls, text, schema=TIMES_SCHEMA, where=where)


@record
class PrunePlan(Shown):
    """Units to remove, first to last; planning and executing are apart.

    `ranking` lists every unit that may go, least important first; `remove` is a prefix of it.
    """

    remove: tuple[Removal, ...]
    ranking: tuple[str, ...]
    prefixes: tuple[Prefix, ...]  # len(ranking) + 1 entries
    target: dict[str, Any]  # what was asked for, e.g. {"max_drop": 0.02}
    criterion: str  # what the ranking rests on, e.g. "reinit_drop"
    inputs: Any = None  # structure of example inputs, for the check after surgery
    note: str = ""
    timed_on: str = ""  # what took the latencies, if not PyTorch on the device of the run

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the units that go, first to last."""
        return tuple(removal.unit.name for removal in self.remove)

    def _table(self) -> Table:
        return removal_table(self.names, self.ranking, self.prefixes, self.criterion)

    def untimed(self) -> tuple[PrunePlan, PlanTimes]:
        """Return the plan without measured latencies, and the latencies."""
        bare = tuple(replace(p, latency_ms=None, interpolated=None) for p in self.prefixes)
        times = PlanTimes(
            ranking=self.ranking,
            latency_ms=tuple(prefix.latency_ms for prefix in self.prefixes),
            interpolated=tuple(prefix.interpolated for prefix in self.prefixes),
            timed_on=self.timed_on,
        )
        return replace(self, prefixes=bare, timed_on=""), times

    def timed(self, times: PlanTimes) -> PrunePlan:
        """Return the plan with latencies; unchanged where they belong to another ranking."""
        if times.ranking != self.ranking or len(times.latency_ms) != len(self.prefixes):
            return self
        between = times.interpolated or (None,) * len(self.prefixes)
        rows = zip(self.prefixes, times.latency_ms, between, strict=True)
        prefixes = tuple(replace(p, latency_ms=ms, interpolated=error) for p, ms, error in rows)
        return replace(self, prefixes=prefixes, timed_on=times.timed_on)

    def to_json(self) -> str:
        """Return the readable file form; `PrunePlan.from_json` reads it back, equal."""
        return records.to_json(self, schema=SCHEMA)

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str = "the plan") -> PrunePlan:
        """Return the plan that `to_json` wrote.

        Raises:
            ConfigError: Not a plan; every problem is listed.
        """
        return records.from_json(cls, text, schema=SCHEMA, where=where)


def make_plan(
    sensitivity: Sensitivity | UnitMap,
    *,
    scores: UnitScores | None = None,
    max_drop: float | None = None,
    remove: Sequence[str] | None = None,
    params: float | None = None,
    flops: float | None = None,
    latency: float | None = None,
    latency_batch: int = 1,
    units: int | None = None,
    contiguous: bool = False,
    keep: Iterable[str] = (),
    keep_first: int = 0,
    keep_last: int = 0,
    rule: Rule = "interval",
    prefixes: Sequence[Prefix] | None = None,
    empty_stages: bool = False,
) -> PrunePlan:
    """Return the plan that removes the units a criterion ranks lowest.

    Units are ranked by `scores`, without them by the `reinit_drop` of a scan; where `max_drop`
    decides by interval, by the upper end of a drop. Budgets are met by the shortest prefix of that
    ranking that meets all of them; `max_drop` bounds every unit of it. Without any target
    nothing is removed. The last unit of a stage stays unless named or `empty_stages` is set.

    Args:
        sensitivity: The scan, whose drops are part of the evidence whatever ranks; or the units
            alone, where `scores` rank them or `remove` names all that go.
        scores: What ranks (`srinit.criteria.score_units`). Where they are losses of the task's
            score, `max_drop` bounds them; else it bounds the `reinit_drop`, and units beyond it
            are ranked behind the others.
        max_drop: Largest drop, a fraction, that a removed unit may have.
        remove: Units that go in any case, in this order, before the ranking is asked.
        params: Parameters that may remain: a fraction in (0, 1], or a count above 1.
        flops: The same for FLOPs per example (one multiply-add counts 2).
        latency: The same for the median latency: a fraction of the baseline's in (0, 1], or
            milliseconds above 1; needs `prefixes` with measured latencies.
        latency_batch: Batch size that `latency` speaks of.
        units: So many units go, those that `remove` names among them; more only for a budget.
        contiguous: They follow one another in one stage: the run with the lowest sum of what
            ranks (in the manner of Gromov et al., https://arxiv.org/abs/2403.17887); needs `units`.
        keep: Protected units.
        keep_first: So many units at the beginning, of those that may go, are protected too.
        keep_last: The same at the end.
        rule: "interval": the upper bound of the drop must be within `max_drop`. "point": the
            estimate itself, as published (SR-init, https://arxiv.org/abs/2303.07677).
        prefixes: Measured costs of every prefix of this plan's ranking (`measure_prefixes`);
            by default parameters and FLOPs are summed over the units.
        empty_stages: Allow the last unit of a stage to go.

    Raises:
        PlanError: An unknown or locked unit is named, or a target cannot be met; the message
            says what can.
        TypeError: `remove` or `keep` is a text in place of a list of names, or something else
            is of a wrong kind.

    Example:
        >>> from torch import nn, zeros
        >>> from srinit.units import find_units
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        >>> make_plan(find_units(model, zeros(2, 4, 8)), remove=["layers.1"]).names
        ('layers.1',)
    """
    if isinstance(sensitivity, UnitMap):
        sensitivity = unscanned(sensitivity)
    _check_arguments(sensitivity, scores, rule, max_drop)
    unit_map = sensitivity.unit_map
    named = as_names(remove, "remove")
    keep = (*as_names(keep, "keep"), *ends(unit_map, keep_first, keep_last))
    check_names(unit_map, named, keep)
    budgets = {"params": params, "flops": flops, "latency": latency}
    wanted = {name: value for name, value in budgets.items() if value is not None}
    check_numbers(units, named, wanted, contiguous=contiguous)
    by_interval = max_drop is not None and rule == "interval"
    evidence = scores_of(sensitivity)
    scores = scores or (_names_alone() if sensitivity.is_off else evidence)
    _check_ranked(sensitivity, scores, {"max_drop": max_drop, "units": units, **wanted})
    values = _values(scores, by_interval=by_interval)
    bounded = values if scores.is_drop else _values(evidence, by_interval=by_interval)
    over = _over(bounded, max_drop)
    order = _ranking(unit_map, values, over, named, keep, empty_stages=empty_stages)
    if contiguous and units:
        free = [n for n, value in values.items() if value is not None and n not in {*keep, *over}]
        run = best_run(unit_map, values, free, units, empty_stages=empty_stages)
        order = _ranking(unit_map, values, over, run, keep, empty_stages=empty_stages)
    costs = tuple(prefixes) if prefixes is not None else _summed(unit_map, order)
    if len(costs) != len(order) + 1:
        raise PlanError(
            f"{len(costs)} prefixes were given for a ranking of {len(order)} units; "
            "measure them for this ranking (it changes with keep, remove and rule)."
        )
    within = len(named) + sum(name not in over for name in order[len(named) :])
    allowed = len(order) if max_drop is None else within
    count = len(named) if not wanted and max_drop is None else allowed
    if units is not None:
        count = enough(units, allowed, len(order))
    if wanted:
        least = max(len(named), units or 0)
        count = _shortest(costs, wanted, str(latency_batch), least, allowed, max_drop)
    asked = {"units": units, "contiguous": contiguous or None}
    asked |= {"keep_first": keep_first or None, "keep_last": keep_last or None}
    target: dict[str, Any] = {**wanted, **{k: v for k, v in asked.items() if v is not None}}
    if max_drop is not None:
        target |= {"max_drop": max_drop, "rule": rule}
    if named:
        target["remove"] = list(named)
    if latency is not None:
        target["latency_batch"] = latency_batch
    return PrunePlan(
        remove=tuple(
            Removal(unit=unit_map[name], evidence=_evidence(evidence, scores, name))
            for name in order[:count]
        ),
        ranking=order,
        prefixes=costs,
        target=target,
        criterion=scores.criterion,
        inputs=unit_map.inputs,
    )


def _check_arguments(sensitivity: object, scores: object, rule: object, max_drop: Any) -> None:
    if not isinstance(sensitivity, Sensitivity):
        raise TypeError(
            "a plan is made from a scan (Sensitivity) or from units (UnitMap), found "
            f"{type(sensitivity).__name__}; measure_sensitivity and find_units give them, and "
            "scores= takes those of a criterion."
        )
    if scores is not None and not isinstance(scores, UnitScores):
        raise TypeError(
            f"scores are UnitScores, as score_units gives, not {type(scores).__name__}."
        )
    if rule not in get_args(Rule):
        raise PlanError(f"rule is one of {', '.join(get_args(Rule))}, not {rule!r}.")
    if max_drop is not None and not math.isfinite(max_drop):
        raise PlanError(f"max_drop={max_drop} cannot be met: give a fraction such as 0.01.")


def _names_alone() -> UnitScores:
    """Return what a plan by names rests on where nothing was measured."""
    return UnitScores(criterion=NAMES, units=(), is_drop=False, num_examples=0, seed=0)


def _check_ranked(
    sensitivity: Sensitivity, scores: UnitScores, asked: Mapping[str, float | None]
) -> None:
    """Raise `PlanError` for a target that asks for numbers which nobody measured."""
    if not sensitivity.is_off:
        return
    targets = [name for name, value in asked.items() if value is not None]
    if scores.criterion == NAMES and targets:
        raise PlanError(
            f"{targets[0]} chooses by what was measured, and here are units alone: give scores= "
            "(score_units) or a scan, or name all that go in remove."
        )
    if "max_drop" in targets and not scores.is_drop:
        raise PlanError(
            f"max_drop bounds losses of the score, which {scores.criterion} does not measure and "
            "the scan was left out: give a scan, scores of removal_drop, or another target."
        )


def _values(scores: UnitScores, *, by_interval: bool) -> dict[str, float | None]:
    """Return what each unit is ranked or bounded by; the upper end where intervals decide."""
    ends = {u.unit: u.high if by_interval and u.high is not None else u.score for u in scores.units}
    return {u.unit: None if u.score is None else ends[u.unit] for u in scores.units}


def _over(bounded: Mapping[str, float | None], max_drop: float | None) -> frozenset[str]:
    """Return the units that `max_drop` does not let go."""
    if max_drop is None:
        return frozenset()
    return frozenset(n for n, value in bounded.items() if value is None or value > max_drop)


def _ranking(
    units: UnitMap,
    values: Mapping[str, float | None],
    over: Container[str],
    named: Sequence[str],
    keep: Sequence[str],
    *,
    empty_stages: bool,
) -> tuple[str, ...]:
    """Return the units that may go: named ones, then by value, those over the limit last."""
    candidates: list[tuple[bool, float, int, str]] = []
    for unit in units.removable:
        value = values.get(unit.name)
        if unit.name not in named and unit.name not in keep and value is not None:
            candidates.append((unit.name in over, value, unit.position, unit.name))
    stages = [unit.stage for unit in units.removable] + [unit.stage for unit in units.locked]
    left = Counter(stages)
    order = list(named)
    for name in named:
        left[units[name].stage] -= 1
    for *_, name in sorted(candidates):
        stage = units[name].stage
        if left[stage] > 1 or empty_stages or not stage:
            left[stage] -= 1
            order.append(name)
    return tuple(order)


def _summed(units: UnitMap, order: Sequence[str]) -> tuple[Prefix, ...]:
    prefixes = [Prefix(num_removed=0, params=units.params, flops=units.flops)]
    for count, name in enumerate(order, start=1):
        unit, last = units[name], prefixes[-1]
        prefixes.append(
            Prefix(
                num_removed=count, params=last.params - unit.params, flops=last.flops - unit.flops
            )
        )
    return tuple(prefixes)


def _shortest(
    costs: Sequence[Prefix],
    wanted: Mapping[str, float],
    batch: str,
    at_least: int,
    at_most: int,
    max_drop: float | None,
) -> int:
    """Return the length of the shortest prefix that meets every budget."""
    limits = {}
    for name, value in wanted.items():
        if not 0 < value < math.inf:
            raise PlanError(
                f"{name}={value:g} cannot be met: give a fraction in (0, 1] or a count."
            )
        limits[name] = value * _cost(costs[0], name, batch) if value <= 1 else value
    for count in range(at_least, at_most + 1):
        if all(_cost(costs[count], name, batch) <= limit for name, limit in limits.items()):
            return count
    reachable = []
    for name, limit in limits.items():
        best = min(_cost(costs[count], name, batch) for count in range(at_least, at_most + 1))
        if best > limit:
            share = best / _cost(costs[0], name, batch)
            show = "{:.3g} ms" if name == "latency" else "{:,.0f}"
            reachable.append(
                f"{name} can go down to {show.format(best)} ({share:.3f}), not {show.format(limit)}"
            )
    within = f" within max_drop={max_drop:g}" if max_drop is not None else ""
    raise PlanError(
        f"the target cannot be met by removing {at_most} of {len(costs) - 1} units{within}: "
        + ("; ".join(reachable) or "each budget can be met, but not all of them by one prefix")
        + ". Ask for less, raise max_drop, or shorten keep."
    )


def _cost(prefix: Prefix, name: str, batch: str) -> float:
    if name == "params":
        return float(prefix.params)
    if name == "flops":
        return float(prefix.flops)
    if prefix.latency_ms is None or batch not in prefix.latency_ms:
        raise PlanError(
            f"latency at batch {batch} was not measured for this plan: "
            "measure the prefixes first (srinit.curve.measure_prefixes)."
        )
    return prefix.latency_ms[batch]


def _evidence(reinit: UnitScores, scores: UnitScores, name: str) -> RemovalEvidence:
    """Return the re-initialization drop, and beside it what ranks."""
    found = RemovalEvidence()
    for drop in reinit.units:
        if drop.unit == name:
            found = RemovalEvidence(reinit_drop=drop.score, interval=drop.interval)
    ranked = [unit for unit in scores.units if unit.unit == name]
    if scores.criterion.startswith("reinit_drop") or not ranked:
        return found
    return replace(found, score=ranked[0].score, score_interval=ranked[0].interval)
