"""The power of the paired test of non-inferiority, exactly, and how many pairs give it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, gammaln, ndtri

Floats = npt.NDArray[np.float64]
MOST_EXACT = 20_000  # discordant pairs expected; above them the normal approximation is as good
REACH = 7.0  # standard deviations of the number of discordant pairs that are summed over


def restricted_variance(lost: Floats, gained: Floats, margin: float) -> Floats:
    """Return the variance of one paired difference, if the loss were as large as the margin.

    Args:
        lost: Share of pairs that only the first has right.
        gained: Share that only the second has right.
        margin: The loss.

    Source: Tango, Statistics in Medicine 17, 1998; as in `srinit.stats.paired.tango_interval`.
    """
    b = -lost - gained + (2 - lost + gained) * margin
    c = -gained * margin * (1 - margin)
    q = (np.sqrt(np.maximum(b * b - 8 * c, 0.0)) - b) / 4
    variance: Floats = 2 * q + margin * (1 - margin)
    return variance


def paired_power(
    count: int, *, margin: float, discordant: float, drop: float, quantile: float
) -> float:
    """Return the chance that Tango's interval on `count` pairs ends at or below the margin.

    The sum over all numbers of discordant pairs and of losses among them; none is simulated.

    Args:
        count: Pairs.
        margin: Loss that is acceptable.
        discordant: Share of pairs that only one has right.
        drop: Loss that is really there.
        quantile: Of the two-sided interval, 1.96 for 95 %.

    Example:
        >>> round(paired_power(500, margin=0.05, discordant=0.1, drop=0.0, quantile=1.96), 3)
        0.93
    """
    middle, spread = count * discordant, math.sqrt(count * discordant * (1 - discordant))
    first = max(0, math.floor(middle - REACH * spread - 1))
    pairs_M = np.arange(first, min(count, math.ceil(middle + REACH * spread + 1)) + 1, dtype=float)

    def passes(lost: Floats) -> npt.NDArray[np.bool_]:
        gained = pairs_M - lost
        variance = restricted_variance(lost / count, gained / count, margin)
        distance = lost - gained - count * margin
        found: npt.NDArray[np.bool_] = distance <= -quantile * np.sqrt(count * variance)
        return found

    low_M, high_M = np.full(len(pairs_M), -1.0), pairs_M.copy()
    while (low_M < high_M).any():  # most losses that pass; -1 for none
        middle_M = np.ceil((low_M + high_M) / 2)
        good_M = passes(middle_M)
        low_M, high_M = np.where(good_M, middle_M, low_M), np.where(good_M, high_M, middle_M - 1)
    lost = (discordant + drop) / (2 * discordant) if discordant else 0.5
    chance_M = np.where(low_M >= 0, bdtr(np.maximum(low_M, 0), pairs_M.astype(int), lost), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_M = gammaln(count + 1) - gammaln(pairs_M + 1) - gammaln(count - pairs_M + 1)
        log_M = log_M + np.where(pairs_M > 0, pairs_M * np.log(discordant), 0.0)
        rest_M = count - pairs_M
        log_M = log_M + np.where(rest_M > 0, rest_M * np.log1p(-discordant), 0.0)
    return float((np.exp(log_M) * chance_M).sum())


def pairs_for_power(
    power: float, *, margin: float, discordant: float, drop: float, quantile: float
) -> int:
    """Return how many pairs give the power: by the normal approximation, then exactly.

    The normal approximation has the variance of the margin for the limit, and that of the loss
    that is there for the chance to reach it. Source: Connor, Biometrics 43, 1987,
    https://doi.org/10.2307/2531961
    """
    lost, gained = ((discordant + sign * drop) / 2 for sign in (1, -1))
    limit = float(restricted_variance(np.array(lost), np.array(gained), margin))
    real = max(discordant - drop * drop, 0.0)
    spread = quantile * math.sqrt(limit) + float(ndtri(power)) * math.sqrt(real)
    about = max(math.ceil((spread / (margin - drop)) ** 2), 1)
    if about * discordant > MOST_EXACT or not discordant:
        return about

    def enough(count: int) -> bool:
        found = paired_power(
            count, margin=margin, discordant=discordant, drop=drop, quantile=quantile
        )
        return found >= power

    low, high = 0, about
    while not enough(high):
        low, high = high, math.ceil(1.25 * high) + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
