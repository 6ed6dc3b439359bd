"""Shares of what lies together in examples: objects or pixels of one image are not independent.

Source: Korn and Graubard, Survey Methodology 24, 1998, pp. 193 to 201: Clopper and Pearson's
interval with the effective number, which the variance between clusters gives (Cochran, Sampling
Techniques, section 6.3, the ratio estimate). The same number goes into Tango's for differences.
"""

from __future__ import annotations

import numpy as np

from srinit.stats.paired import (
    Floats,
    beta_ends,
    mean_interval,
    student_quantile,
    tango_interval,
)


def share_interval(part: Floats, whole: Floats, confidence: float) -> tuple[float, float]:
    """Return the interval of `part.sum() / whole.sum()`, examples taken for independent.

    Args:
        part: How many of each example; at most `whole`.
        whole: Of how many; an example of 0 tells nothing.
        confidence: Two-sided.

    Example:
        >>> low, high = share_interval(np.zeros(300), np.ones(300), 0.95)
        >>> low, round(high, 4)
        (0.0, 0.0122)
    """
    total = float(whole.sum())
    if total == 0:
        return 0.0, 1.0
    if _are_values(part, whole):
        low, high = mean_interval(part, confidence)
        return max(0.0, low), high
    scale = _effective(part, whole, confidence, part.sum() / total, part.sum() / total)
    return beta_ends(float(part.sum()) * scale, total * scale, (1 - confidence) / 2)


def change_interval(
    before: Floats, after: Floats, whole: Floats, confidence: float
) -> tuple[float, float]:
    """Return the interval of what is added to a share: `(after - before).sum() / whole.sum()`.

    Args:
        before: How many of each example.
        after: The same, afterwards.
        whole: Of how many, both times.
        confidence: Two-sided.
    """
    total = float(whole.sum())
    if total == 0:
        return -1.0, 1.0
    added = after - before
    if _are_values(before, whole) or _are_values(after, whole):
        return mean_interval(added, confidence)
    more, less = (float(np.clip(side, 0, None).sum()) for side in (added, -added))
    scale = _effective(added, whole, confidence, (more - less) / total, (more + less) / total)
    return tango_interval(more * scale, less * scale, total * scale, confidence)


def _are_values(part: Floats, whole: Floats) -> bool:
    """Return whether each example has one value in [0, 1], not a count."""
    return bool((whole == 1).all()) and not bool(np.isin(part, (0.0, 1.0)).all())


def _effective(part: Floats, whole: Floats, confidence: float, mean: float, square: float) -> float:
    """Return the effective number over the number, at most 1.

    Args:
        part: Summed over each example.
        whole: Of how many.
        confidence: Of the interval.
        mean: Of one object or pixel.
        square: Mean of its square.
    """
    clusters, total = int((whole > 0).sum()), float(whole.sum())
    simple = (square - mean * mean) / total
    if clusters == total:
        return 1.0
    if clusters < 2 or simple <= 0:  # nothing differs: each example counts once
        return clusters / total
    rest = part - mean * whole
    variance = clusters / (clusters - 1) * float((rest**2).sum()) / total**2
    number = min(total, total * simple / variance) if variance > 0 else clusters
    few, many = (student_quantile(confidence, n - 1) for n in (clusters, max(total, 2)))
    return float(min(1.0, number / total * (many / few) ** 2))
