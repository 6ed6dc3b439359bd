"""What is known of one unit so far, and when it is enough."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from srinit.engine import BatchOutcomes
from srinit.records import Interval, record
from srinit.sensitivity.records import Decision, UnitSensitivity
from srinit.sensitivity.selection import Side
from srinit.stats.sequences import MeanSequence

COLLAPSED = 0.9  # share of one prediction from which on a unit's answers count as collapsed
COARSE = 5.0  # half-widths as wide suffice for units that nothing is decided about
DECISIVE = 0.8  # share of the distance to the limit that the interval should stay within
SHOWN = 64  # single drops kept in the record


@record
class StoppingRule:
    """When a unit is measured well enough."""

    half_width: float | None
    confidence: float
    num_units: int  # for statements about all units at once
    max_drop: float | None = None
    num_remove: int | None = None  # how many units go
    decide: bool = False  # units that are surely on one side are measured no further

    @property
    def joint_confidence(self) -> float:
        """Confidence of one unit's interval when all hold together (Bonferroni)."""
        return 1 - (1 - self.confidence) / max(self.num_units, 1)

    @property
    def target_half_width(self) -> float:
        """Half-width at which the stakes of the intervals aim."""
        return 0.02 if self.half_width is None else self.half_width


def sequence_for(rule: StoppingRule) -> MeanSequence:
    """Return the interval of a unit's drop: level 0 alone, level 1 for all units at once."""
    return MeanSequence(
        low=-1.0,
        high=1.0,
        confidences=(rule.confidence, rule.joint_confidence),
        target=rule.target_half_width,
    )


class DropEstimator:
    """Observations of one unit: each draw's mean drop is one of them."""

    def __init__(
        self,
        name: str,
        *,
        removable: bool,
        rule: StoppingRule,
        problem: str = "",
        note: str = "",
        interval: bool = True,
    ) -> None:
        self.name = name
        self.problem = problem
        self._note = note
        self._removable = removable
        self._rule = rule
        self._sequence = sequence_for(rule)
        self._with_interval = interval
        self.side: Side = "open"  # of the line between the units that go and those that stay
        self.line: float | None = None  # where that line is, as far as is known
        self.drops: list[float] = []
        self._squares = 0.0  # of the deviations within a draw, over all draws
        self._freedom = 0  # their degrees of freedom
        self._shares: list[float] = []  # of an example in its draw
        self.num_examples = 0
        self._nonfinite = 0
        self._predictions: Counter[int] = Counter()
        self._baseline: Counter[int] = Counter()
        self._by_class: defaultdict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(
        self,
        baseline: BatchOutcomes,
        rows: BatchOutcomes,
        classes: Sequence[int] | None,
        per_draw: int,
        examples_left: int,
    ) -> None:
        """Take in one batch, in which every `per_draw` examples share a draw.

        Args:
            baseline: The baseline's outcomes.
            rows: The outcomes with the unit drawn again.
            classes: Class of each example.
            per_draw: Examples that shared a draw.
            examples_left: How many the data holds, from this batch on.
        """
        drop_B = np.asarray(baseline.scores) - np.asarray(rows.scores)
        starts_D = np.arange(0, len(drop_B), per_draw)
        counts_D = np.diff(starts_D, append=len(drop_B))
        means_D = np.add.reduceat(drop_B, starts_D) / counts_D
        squares_D = np.add.reduceat((drop_B - np.repeat(means_D, counts_D)) ** 2, starts_D)
        fresh = np.clip(means_D, -1.0, 1.0).tolist()
        for square, count in zip(squares_D.tolist(), counts_D.tolist(), strict=True):
            self._squares += square
            self._freedom += count - 1
            self._shares.append(1 / count)
        if self._with_interval:
            self._aim(len(self.drops) + examples_left / per_draw)
            self._sequence.update(fresh)
        self.drops += fresh
        self.num_examples += len(drop_B)
        self._nonfinite += rows.nonfinite
        self._predictions.update(rows.predictions or ())
        self._baseline.update(baseline.predictions or ())
        if classes is not None and len(classes) == len(drop_B):
            found, which_B = np.unique(np.asarray(classes), return_inverse=True)
            totals, counts = np.bincount(which_B, weights=drop_B), np.bincount(which_B)
            for index, total, count in zip(
                found.tolist(), totals.tolist(), counts.tolist(), strict=True
            ):
                entry = self._by_class[index]
                entry[0] += total
                entry[1] += count

    def _aim(self, most: float) -> None:
        """Aim both intervals at what will end the scan of this unit: width, decision or data."""
        rule = self._rule
        levels = (rule.confidence, rule.joint_confidence)
        alone, joint = (-float(ndtri((1 - level) / 2)) for level in levels)
        target_half_width = rule.target_half_width * joint / alone
        limits = [limit for limit in (rule.max_drop, self.line) if limit is not None]
        if limits and self.drops:
            target_half_width = max(
                target_half_width, DECISIVE * min(abs(self.mean - limit) for limit in limits)
            )
        self._sequence.aim(0, half_width=rule.target_half_width, most=most)
        self._sequence.aim(1, half_width=target_half_width, most=most)

    @property
    def removable(self) -> bool:
        """Whether the unit may go."""
        return self._removable

    @property
    def mean(self) -> float:
        """Mean drop so far."""
        return float(np.mean(self.drops))

    @property
    def half_width(self) -> float:
        """Half-width of the interval of this unit alone."""
        return self._sequence.half_width(0)

    @property
    def joint(self) -> tuple[float, float]:
        """The interval that holds for all units at once."""
        return self._sequence.interval(1)

    @property
    def is_precise(self) -> bool:
        """Whether the interval is as narrow as was asked for."""
        wanted = self._rule.half_width
        return wanted is not None and self.half_width <= wanted + 1e-12

    @property
    def is_decided(self) -> bool:
        """Whether the drop is on one side of the limit, for all units at once."""
        return self._side() in ("redundant", "needed")

    @property
    def is_done(self) -> bool:
        """Whether no more observations are needed."""
        if self.problem or self.is_precise:
            return True
        return self.is_settled if self._rule.decide else self.is_decided

    @property
    def is_settled(self) -> bool:
        """Whether all is decided about the unit that there is to decide."""
        rule = self._rule
        if not self._removable:
            return bool(self.drops) and self.half_width <= COARSE * rule.target_half_width
        by_limit = rule.max_drop is None or self.is_decided
        return by_limit and (rule.num_remove is None or self.side != "open")

    def _side(self) -> Decision:
        if self.problem or not self.drops:
            return "not measured"
        limit = self._rule.max_drop
        low, high = self.joint
        if limit is not None and high <= limit:
            return "undecided" if self.looks_collapsed else "redundant"
        if limit is not None and low > limit:
            return "needed"
        return "undecided"

    @property
    def looks_collapsed(self) -> bool:
        """Whether outputs broke down to NaN or to one class, and the baseline's did not."""
        found, usual = self.top_share or 0.0, _top_share(self._baseline) or 0.0
        return self._nonfinite > 0 or (found > COLLAPSED and found > (1 + usual) / 2)

    @property
    def top_share(self) -> float | None:
        """Share of the most frequent prediction; None where there are no classes."""
        return _top_share(self._predictions)

    def variances(self) -> tuple[float, float]:
        """Return the variance of the drop between draws, and within a draw per example.

        By one-way analysis of variance (method of moments); an example's own variance counts
        as between draws where every draw met only one.
        """
        within = self._squares / self._freedom if self._freedom else 0.0
        if len(self.drops) < 2:
            return 0.0, within
        total = float(np.var(self.drops, ddof=1))
        share = float(np.mean(self._shares))
        return max(total - within * share, 0.0), within

    def result(self, *, ended: str) -> UnitSensitivity:
        """Return the record of this unit.

        Args:
            ended: Why the scan of this unit ended, "data" or "".
        """
        measured = bool(self.drops) and not self.problem
        return UnitSensitivity(
            unit=self.name,
            removable=self._removable,
            reinit_drop=float(np.mean(self.drops)) if measured else None,
            interval=self._interval(0) if measured else None,
            joint=self._interval(1) if measured else None,
            num_draws=len(self.drops),
            num_examples=self.num_examples,
            draw_spread=math.sqrt(self.variances()[0]) if len(self.drops) > 1 else None,
            balanced_drop=self._balanced(),
            top_share=self.top_share,
            nonfinite=self._nonfinite / self.num_examples if self.num_examples else 0.0,
            decision=self._side(),
            selection=self.side if self._rule.num_remove is not None and self._removable else "",
            reason=self._reason(ended),
            observations=_thinned(self.drops),
        )

    def _interval(self, which: int) -> Interval:
        """Return the interval of this unit alone (0), or the one for all units at once (1)."""
        low, high = self._sequence.interval(which)
        rule = self._rule
        confidence = (rule.confidence, rule.joint_confidence)[which]
        return Interval(value=self.mean, low=low, high=high, confidence=confidence)

    def _balanced(self) -> float | None:
        means = [total / count for total, count in self._by_class.values() if count]
        return float(np.mean(means)) if means else None

    def _reason(self, ended: str) -> str:
        if self.problem:
            return self.problem
        found = [self._note] if self._note else []
        if self._nonfinite:
            found.append(
                f"{self._nonfinite} of {self.num_examples} outputs were not finite (counted as "
                "wrong)"
            )
        elif self.looks_collapsed:
            found.append(f"the model answers one class for {self.top_share:.0%} of the examples")
        if ended == "data":
            found.append(f"the data ended at a half-width of {self.half_width:.3f}")
        elif self._rule.decide and not self._removable:
            found.append("locked: nothing is decided about it, so a wide interval is enough")
        elif self._rule.max_drop is not None and self._side() == "undecided":
            low, high = self.joint
            if not low <= self._rule.max_drop <= high:
                return "; ".join(found)
            found.append(
                f"the joint interval [{low:.3f}, {high:.3f}] contains the limit "
                f"{self._rule.max_drop:g} at the precision that was asked for"
            )
        return "; ".join(found)


def _top_share(predictions: Counter[int]) -> float | None:
    total = predictions.total()
    return predictions.most_common(1)[0][1] / total if total else None


def _thinned(drops: Sequence[float]) -> tuple[float, ...]:
    """Return at most `SHOWN` of the drops, evenly spread over the scan."""
    if len(drops) <= SHOWN:
        return tuple(drops)
    chosen = np.linspace(0, len(drops) - 1, SHOWN).round().astype(int)
    return tuple(drops[index] for index in chosen)
