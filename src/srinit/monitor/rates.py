"""The fall of a rate in a window, limited by the exact test of two rates."""

from __future__ import annotations

from scipy import stats

from srinit.monitor.drift import Finding


def fall(
    quantity: str, before: tuple[int, int], now: tuple[int, int], alpha: float, min_effect: float
) -> Finding:
    """Return the fall of a rate; the limit is the fall at which Fisher's exact test rejects.

    Args:
        quantity: Its name.
        before: Hits and examples of the baseline.
        now: Hits and examples of the window.
        alpha: Chance that a rate that did not fall is beyond the limit.
        min_effect: Falls below this never count.

    Example:
        >>> fall("accuracy", (97, 100), (30, 50), 0.01, 0.02).beyond
        True
    """
    (hits, total), (seen, count) = before, now
    rate = hits / total
    # Given the hits of both together, those of the window are hypergeometric.
    p_value = float(stats.hypergeom.cdf(seen, total + count, hits + seen, count))
    limit = max(rate - _fewest(hits, total, count, alpha) / count, min_effect)
    effect = rate - seen / count
    return Finding(
        quantity=quantity,
        effect=max(effect, 0.0),
        limit=limit,
        beyond=effect > limit,
        window_examples=count,
        baseline_examples=total,
        p_value=p_value,
        before=rate,
        now=seen / count,
    )


def _fewest(hits: int, total: int, count: int, alpha: float) -> int:
    """Return the fewest hits among `count` that Fisher's one-sided test does not reject."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        rejected = stats.hypergeom.cdf(middle, total + count, hits + middle, count) < alpha
        low, high = (middle + 1, high) if rejected else (low, middle)
    return low
