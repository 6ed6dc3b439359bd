"""What is missed and called falsely within examples: objects and pixels, before and after."""

from __future__ import annotations

from srinit.comparison.differences import Floats
from srinit.comparison.records import Count, Rise, Share
from srinit.errors import DataError
from srinit.evaluate import Outcomes
from srinit.stats.clustered import change_interval, share_interval


def counts_of(baseline: Outcomes, pruned: Outcomes, confidence: float) -> tuple[Count, ...]:
    """Return every kind of count of two networks on the same examples.

    Raises:
        DataError: They were counted otherwise.
    """
    if baseline.counts.dtype != pruned.counts.dtype:
        raise DataError("the two networks were not read by the same task.")
    return tuple(
        _count(name, baseline.counts[name].T, pruned.counts[name].T, confidence)
        for name in baseline.counts.dtype.names or ()
    )


def _count(name: str, one: Floats, other: Floats, confidence: float) -> Count:
    (before, whole), (after, _) = one, other
    sides = [_share(part, whole, confidence) for part in (before, after)]
    low, high = change_interval(before, after, whole, confidence)
    change = Rise(
        value=None if sides[0].value is None else float((after - before).sum() / whole.sum()),
        low=low,
        high=high,
        confidence=confidence,
        baseline=sides[0].value,
        pruned=sides[1].value,
        num_examples=sides[0].num_examples,
    )
    return Count(name=name, baseline=sides[0], pruned=sides[1], change=change)


def _share(part: Floats, whole: Floats, confidence: float) -> Share:
    low, high = share_interval(part, whole, confidence)
    total = float(whole.sum())
    return Share(
        value=float(part.sum()) / total if total else None,
        low=low,
        high=high,
        confidence=confidence,
        part=float(part.sum()),
        whole=total,
        num_examples=int((whole > 0).sum()),
    )
