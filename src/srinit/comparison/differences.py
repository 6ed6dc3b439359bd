"""Paired differences and rates, each with its interval."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from srinit.comparison.records import Difference, Rate
from srinit.stats import paired

Bools = npt.NDArray[np.bool_]


def rate(hits: int, total: int, confidence: float) -> Rate:
    """Return a share with its exact interval."""
    low, high = paired.clopper_pearson(hits, total, confidence)
    return Rate(hits=hits, total=total, rate=hits / total if total else None, low=low, high=high)


def difference(
    one: npt.NDArray[np.float64],
    other: npt.NDArray[np.float64],
    confidence: float,
    *,
    binary: bool,
) -> Difference:
    """Return what is lost from scores to others of the same examples.

    Args:
        one: Scores of the baseline.
        other: Scores of the pruned network, in the same order.
        confidence: Of the interval: Tango's where `binary`, else Student's.
        binary: Whether all scores are 0 or 1.
    """
    total = len(one)
    if total == 0:
        return Difference(baseline=None, pruned=None, drop=None, low=-1.0, high=1.0, num_examples=0)
    if binary:
        lost, gained = int((one > other).sum()), int((one < other).sum())
        low, high = paired.tango_interval(lost, gained, total, confidence)
    else:
        low, high = paired.mean_interval(one - other, confidence)
    return Difference(
        baseline=float(one.mean()),
        pruned=float(other.mean()),
        drop=float(one.mean() - other.mean()),
        low=low,
        high=high,
        num_examples=total,
    )


def increase(before: Bools, after: Bools, confidence: float) -> Difference:
    """Return the rise of the rate of an error: positive is worse."""
    risen = difference(after.astype(float), before.astype(float), confidence, binary=True)
    return Difference(
        baseline=risen.pruned,
        pruned=risen.baseline,
        drop=risen.drop,
        low=risen.low,
        high=risen.high,
        num_examples=risen.num_examples,
    )
