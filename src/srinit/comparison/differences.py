"""Paired differences and rates, each with its interval."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from srinit.comparison.records import Drop, Rate, Rise
from srinit.stats import paired

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def rate(hits: int, total: int, confidence: float) -> Rate:
    """Return a share with its exact interval."""
    low, high = paired.clopper_pearson(hits, total, confidence)
    return Rate(
        value=hits / total if total else None,
        low=low,
        high=high,
        confidence=confidence,
        hits=hits,
        total=total,
    )


def drop(before: Floats, after: Floats, confidence: float, *, binary: bool) -> Drop:
    """Return what is lost from scores to others of the same examples.

    Args:
        before: Scores of the baseline.
        after: Scores of the pruned network, in the same order.
        confidence: Of the interval: Tango's where `binary`, else Student's.
        binary: Whether all scores are 0 or 1.
    """
    low, high = _ends(before, after, confidence, binary=binary)
    return Drop(
        value=_mean_excess(before, after),
        low=low,
        high=high,
        confidence=confidence,
        baseline=_mean(before),
        pruned=_mean(after),
        num_examples=len(before),
    )


def rise(before: Bools, after: Bools, confidence: float) -> Rise:
    """Return what is added to the rate of an error."""
    less, more = before.astype(float), after.astype(float)
    low, high = _ends(more, less, confidence, binary=True)
    return Rise(
        value=_mean_excess(more, less),
        low=low,
        high=high,
        confidence=confidence,
        baseline=_mean(less),
        pruned=_mean(more),
        num_examples=len(less),
    )


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _mean_excess(more: Floats, less: Floats) -> float | None:
    return float(more.mean() - less.mean()) if len(more) else None


def _ends(more: Floats, less: Floats, confidence: float, *, binary: bool) -> tuple[float, float]:
    """Return the interval of the mean of `more - less`, pair by pair."""
    if len(more) == 0:
        return -1.0, 1.0
    if binary:
        won, lost = int((more > less).sum()), int((more < less).sum())
        return paired.tango_interval(won, lost, len(more), confidence)
    return paired.mean_interval(more - less, confidence)
