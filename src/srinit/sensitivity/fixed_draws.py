"""Draws that stay the same over the whole data set: the published procedure, and its intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from srinit.engine import BatchOutcomes
from srinit.records import Interval
from srinit.sensitivity.drop_estimator import COLLAPSED, StoppingRule
from srinit.sensitivity.records import UnitSensitivity
from srinit.stats.paired import student_quantile


def summary(
    baseline: BatchOutcomes, rows: BatchOutcomes, classes: Sequence[int] | None
) -> dict[str, Any]:
    """Return what one draw did to one batch, in the form of the journal."""
    drops = np.asarray(baseline.scores) - np.asarray(rows.scores)
    by_class: dict[str, list[float]] = {}
    for index, drop in zip(classes or (), drops.tolist(), strict=False):
        entry = by_class.setdefault(str(index), [0.0, 0.0])
        entry[0] += drop
        entry[1] += 1
    counts = Counter(str(index) for index in rows.predictions or ())
    return {
        "sum": float(drops.sum()),
        "squares": float((drops**2).sum()),
        "count": len(drops),
        "nonfinite": rows.nonfinite,
        "predictions": dict(sorted(counts.items())),
        "classes": dict(sorted(by_class.items())),
    }


@dataclass
class _Draw:
    total: float = 0.0
    squares: float = 0.0
    count: int = 0
    nonfinite: int = 0
    predictions: Counter[str] = field(default_factory=Counter)
    classes: dict[str, list[float]] = field(default_factory=dict)

    def add(self, line: dict[str, Any]) -> None:
        self.total += line["sum"]
        self.squares += line["squares"]
        self.count += line["count"]
        self.nonfinite += line["nonfinite"]
        self.predictions.update(line["predictions"])
        for key, (total, count) in line["classes"].items():
            entry = self.classes.setdefault(key, [0.0, 0.0])
            entry[0] += total
            entry[1] += count

    @property
    def drop(self) -> float:
        return self.total / self.count

    @property
    def variance(self) -> float:
        return max(self.squares / self.count - self.drop**2, 0.0)


class FixedDraws:
    """Observations of one unit, each a draw over the whole data set."""

    def __init__(
        self,
        name: str,
        *,
        removable: bool,
        rule: StoppingRule,
        draws: int,
        problem: str = "",
        note: str = "",
    ) -> None:
        self.name = name
        self.problem = problem
        self._note = note
        self._removable = removable
        self._rule = rule
        self._draws = [_Draw() for _ in range(draws)]

    def add(self, lines: Sequence[dict[str, Any]]) -> None:
        """Take in one batch: a summary for each draw."""
        for draw, line in zip(self._draws, lines, strict=True):
            draw.add(line)

    def result(self) -> UnitSensitivity:
        """Return the record of this unit.

        The interval is Student's t over the draws, widened by the chance of the examples; it is
        valid for the number of draws that was fixed before, and there is none for one draw.
        """
        draws = [draw for draw in self._draws if draw.count]
        if self.problem or not draws:
            return self._record(decision="not measured", reason=self.problem or "no data")
        drops = np.asarray([draw.drop for draw in draws])
        mean = float(drops.mean())
        alone = self._interval(drops, draws, self._rule.confidence)
        joint = self._interval(drops, draws, self._rule.joint_confidence)
        predictions: Counter[str] = sum((draw.predictions for draw in draws), Counter())
        nonfinite = sum(draw.nonfinite for draw in draws)
        total = predictions.total()
        share = predictions.most_common(1)[0][1] / total if total else None
        examples = sum(draw.count for draw in draws)
        reasons = [
            f"Student's t over {len(draws)} whole-set draws"
            if len(draws) > 1
            else "one draw: there is no interval"
        ]
        if self._note:
            reasons.append(self._note)
        if nonfinite:
            reasons.append(f"{nonfinite} of {examples} outputs were not finite (counted as wrong)")
        if share is not None and share > COLLAPSED:
            reasons.append(f"the model answers one class for {share:.0%} of the examples")
        limit = self._rule.max_drop
        broken = bool(nonfinite) or (share or 0.0) > COLLAPSED
        decision = "undecided"
        if limit is not None and joint is not None and joint.high <= limit and not broken:
            decision = "redundant"
        elif limit is not None and joint is not None and joint.low > limit:
            decision = "needed"
        return self._record(
            reinit_drop=mean,
            interval=alone,
            joint=joint,
            num_draws=len(draws),
            num_examples=examples,
            draw_spread=float(drops.std(ddof=1)) if len(draws) > 1 else None,
            balanced_drop=_balanced(draws),
            top_share=share,
            nonfinite=nonfinite / examples,
            decision=decision,
            reason="; ".join(reasons),
            observations=tuple(drops.tolist())[:64],
        )

    def _record(self, **values: object) -> UnitSensitivity:
        defaults: dict[str, Any] = {
            "unit": self.name,
            "removable": self._removable,
            "num_draws": 0,
            "num_examples": 0,
            "nonfinite": 0.0,
        }
        for key in ("reinit_drop", "interval", "joint", "draw_spread"):
            defaults[key] = None
        defaults |= {"balanced_drop": None, "top_share": None}
        return UnitSensitivity(**{**defaults, **values})

    def _interval(self, drops: Any, draws: Sequence[_Draw], confidence: float) -> Interval | None:
        count = len(draws)
        if count < 2:
            return None
        examples = float(np.mean([draw.variance / draw.count for draw in draws]))
        error = math.sqrt(float(drops.var(ddof=1)) / count + examples)
        reach = student_quantile(confidence, count - 1) * error
        mean = float(drops.mean())
        low, high = max(mean - reach, -1.0), min(mean + reach, 1.0)
        return Interval(value=mean, low=low, high=high, confidence=confidence)


def _balanced(draws: Sequence[_Draw]) -> float | None:
    sums: dict[str, list[float]] = {}
    for draw in draws:
        for key, (total, count) in draw.classes.items():
            entry = sums.setdefault(key, [0.0, 0.0])
            entry[0] += total
            entry[1] += count
    means = [total / count for total, count in sums.values() if count]
    return float(np.mean(means)) if means else None
