"""Evidence that shares changed: it hardly ever errs, adds up, and no window alone reaches it."""

from __future__ import annotations

import math

import numpy as np

from srinit.stats.share_trend import ShareTrend

NEEDED = math.log(1 / 0.01)


def largest(random: np.random.Generator, size: int, shares: list[float], windows: int) -> float:
    base = np.full(len(shares), 1 / len(shares))
    trend = ShareTrend(random.multinomial(size, base), size, one_window=NEEDED)
    found = -math.inf
    for _ in range(windows):
        trend.add(random.multinomial(200, shares), 200)
        found = max(found, trend.log_evidence())
    return found


def test_shares_that_stay_reach_it_in_one_of_a_hundred_logs_at_most() -> None:
    random = np.random.default_rng(0)
    reached = [largest(random, 300, [0.25] * 4, 20) >= NEEDED for _ in range(100)]
    assert sum(reached) <= 3  # of a chance of 0.01 each, at all times together: P(> 3) is 0.02


def test_a_change_is_found_whenever_it_begins() -> None:
    random = np.random.default_rng(1)
    moved = [0.25, 0.25, 0.17, 0.33]
    assert largest(random, 3000, moved, 12) >= NEEDED
    trend = ShareTrend([750] * 4, 3000, one_window=NEEDED)
    for _ in range(40):
        trend.add(random.multinomial(200, [0.25] * 4), 200)
    assert trend.log_evidence() < NEEDED
    for _ in range(14):
        trend.add(random.multinomial(200, moved), 200)
    assert trend.log_evidence() >= NEEDED
    share, before, now = trend.strongest()
    assert (share in (2, 3), before) == (True, 0.25)
    assert abs(now - moved[share]) < 0.03
    again = ShareTrend([750] * 4, 3000, one_window=NEEDED)
    again.resume(trend.state())
    assert again.log_evidence() == trend.log_evidence()


def test_one_window_alone_never_reaches_it() -> None:
    for counts in ([0, 0, 500], [500, 0, 0], [0]):
        for size in (100, 2000, 20_000):
            base = [size * 5 // 10, size * 3 // 10, size * 2 // 10][: len(counts)]
            trend = ShareTrend(base, size, one_window=NEEDED)
            trend.add(counts, 500)
            assert trend.log_evidence() < NEEDED
            trend.add(counts, 500)
            if size >= 2000:
                assert trend.log_evidence() > NEEDED
