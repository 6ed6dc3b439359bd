"""Paired comparisons of two networks on the same examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv, ndtri, stdtrit

Floats = npt.NDArray[np.float64]


def quantile(confidence: float) -> float:
    """Return the standard normal quantile of a two-sided interval, 1.96 for 0.95."""
    return float(ndtri(0.5 + confidence / 2))


def student_quantile(confidence: float, freedom: float) -> float:
    """Return Student's quantile of a two-sided interval; `freedom` is its degrees of freedom.

    Example:
        >>> round(student_quantile(0.95, 9), 4)
        2.2622
    """
    return float(stdtrit(freedom, 0.5 + confidence / 2))


def fair_tail(hits: int, total: int) -> float:
    """Return the chance that at least `hits` of `total` tosses of a fair coin are heads.

    Example:
        >>> fair_tail(2, 3)
        0.5
    """
    return 1.0 if hits <= 0 else float(betainc(hits, total - hits + 1, 0.5))


def mcnemar_exact(lost: int, gained: int) -> float:
    """Return the two-sided exact p-value of McNemar's test.

    Args:
        lost: Examples that only the baseline has right.
        gained: Examples that only the pruned network has right.

    Source: McNemar, Psychometrika 12, 1947, https://doi.org/10.1007/BF02295996; exact form.

    Example:
        >>> mcnemar_exact(0, 0), round(mcnemar_exact(10, 2), 4)
        (1.0, 0.0386)
    """
    return min(1.0, 2 * fair_tail(max(lost, gained), lost + gained))


def tango_interval(
    lost: float, gained: float, total: float, confidence: float
) -> tuple[float, float]:
    """Return the score interval of the paired difference of two proportions, (lost - gained) / n.

    It keeps its coverage for small samples and for few discordant pairs, where Wald's does not.
    Source: Tango, Statistics in Medicine 17, 1998,
    https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8%3C891::AID-SIM780%3E3.0.CO;2-B

    Args:
        lost: Examples that only the baseline has right.
        gained: Examples that only the pruned network has right.
        total: All examples.
        confidence: Two-sided, in (0, 1).

    Returns:
        Lower and upper end of the accuracy lost, fractions in [-1, 1].

    Example:
        >>> low, high = tango_interval(0, 0, 300, 0.95)
        >>> round(low, 4), round(high, 4)
        (-0.0126, 0.0126)
    """
    z = quantile(confidence)
    estimate = (lost - gained) / total

    def score(delta: float) -> float:
        # `gained` cells have probability q under the constraint lost_p - gained_p = delta.
        a, b = 2.0 * total, -lost - gained + (2 * total - lost + gained) * delta
        c = -gained * delta * (1 - delta)
        q = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = total * (2 * q + delta * (1 - delta))
        distance = lost - gained - total * delta
        if variance <= 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / math.sqrt(variance)

    edge = 1 - 1e-12
    low = -1.0 if estimate <= -edge else _root(lambda d: score(d) - z, -edge, estimate)
    high = 1.0 if estimate >= edge else _root(lambda d: score(d) + z, estimate, edge)
    return low, high


def _root(function: Any, low: float, high: float) -> float:
    """Return where a falling function crosses zero; the nearer end where it does not."""
    at_low, at_high = function(low), function(high)
    if at_low <= 0:
        return low
    if at_high >= 0:
        return high
    from scipy.optimize import brentq  # here: to import it takes a quarter of torch's time

    return float(brentq(function, low, high, xtol=1e-10))


def mean_interval(differences: Floats, confidence: float) -> tuple[float, float]:
    """Return Student's interval of the mean of paired differences (for scores in [0, 1])."""
    count = len(differences)
    mean = float(differences.mean())
    if count < 2:
        return -1.0, 1.0
    error = float(differences.std(ddof=1)) / math.sqrt(count)
    reach = student_quantile(confidence, count - 1) * error
    if reach == 0.0:  # nothing differed: what so few examples can rule out
        reach = 1 - (1 - confidence) ** (1 / count)
    return max(-1.0, mean - reach), min(1.0, mean + reach)


def clopper_pearson(hits: int, total: int, confidence: float) -> tuple[float, float]:
    """Return the exact interval of a rate; zero of 300 gives an upper end of about 1.2 %.

    Source: Clopper and Pearson, Biometrika 26, 1934, https://doi.org/10.1093/biomet/26.4.404

    Example:
        >>> low, high = clopper_pearson(0, 300, 0.95)
        >>> low, round(high, 4)
        (0.0, 0.0122)
    """
    if total == 0:
        return 0.0, 1.0
    return beta_ends(hits, total, (1 - confidence) / 2)


def beta_ends(hits: float, total: float, tail: float) -> tuple[float, float]:
    """Return the ends of Clopper and Pearson's interval, each cutting off `tail`.

    Counts need not be whole: a plan asks what a share would show on other numbers of examples.
    """
    low = float(betaincinv(hits, total - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, total - hits, 1 - tail)) if hits < total else 1.0
    return low, high


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the given order; never below the originals.

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, (len(p_values) - rank) * float(p_values[index]))
        adjusted[int(index)] = min(1.0, running)
    return adjusted
