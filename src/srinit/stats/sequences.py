"""Confidence sequences: intervals for a mean that stay valid however often one looks.

For every value g that the mean could have, a gambler bets that it is larger and another that it
is smaller. Under "the mean is at most g" the first one's wealth is a supermartingale that starts
at 1, so it reaches 2 / alpha with probability at most alpha / 2 (Ville); values for which that
has happened are outside the interval, for good. That is the betting interval of Waudby-Smith and
Ramdas (2023), "Estimating means of bounded random variables by betting",
https://arxiv.org/abs/2010.09686. Observations need a common bound and a common conditional mean
given the past; nothing else is assumed of their distribution.

The stakes aim at being sure when `target` is reached. The wealth that would be needed is the
price of a bet that pays 2 / alpha if it is won at the horizon, the number of observations at
which a normal interval would be that narrow; the stake is what keeps the wealth on the price of
that bet (delta hedging of a binary option). Recomputing stakes from what is left to win is the
idea of STaR-Bets (Voracek and Orabona, 2025, https://arxiv.org/abs/2505.22422). Near the horizon
such stakes grow without bound, so they are held below a few times Kelly's for a mean that is
`target` away: a bet that is narrowly lost then leaves enough to go on with. Any stake that
depends on the past alone is valid. With these, `target` is reached after about 1.2 times the
observations that a normal interval needs that is looked at once (of losses that are rare, at most
one in fifteen, 1.4 to 2 times); stakes that do not aim need sqrt(2 log(2 / alpha)) / 1.96 squared,
1.9 times, at best.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri

# A levels of confidence, G values that the mean could have

SLACK = 1.1  # horizon, as a multiple of what a normal interval needs
RARE_SLACK = 7.0  # rare losses by which the horizon is further away
TAIL = 0.02  # of the horizon: always that much is thought to be left
OVERSHOOT = 1.1  # wealth aimed at, as a multiple of what is needed
KELLY = (2.5, 1.5)  # largest stake before and after the horizon, as a multiple of Kelly's
MAX_STAKE = 0.6  # share of the wealth that one observation can lose
VARIANCE_RANGE = (0.3, 4.0)  # of the variance at another mean, as multiples of the one seen
PRIOR_COUNT = 4  # observations that the prior variance counts for
STEPS = 40  # values of g within one `target`
MOST_STEPS = 8000
BLOCK = 8  # observations for which stakes stay as they are: gamblers need not think each time
_STEP = 0.002
_FLOOR = 80.0


def _stake_table() -> npt.NDArray[np.float64]:
    """Return phi(z) / q at z = Phi^-1(q), by log q from -80 to 0 in steps of `_STEP`."""
    z = np.linspace(-13, 7, 20001)
    log_q = log_ndtr(z)
    ratio = np.exp(-z * z / 2 - math.log(2 * math.pi) / 2 - log_q)
    table: npt.NDArray[np.float64] = np.interp(np.arange(-_FLOOR, _STEP / 2, _STEP), log_q, ratio)
    return table


_STAKES = _stake_table()


class MeanSequence:
    """Intervals, at several confidences at once, for the mean of bounded observations.

    With probability at least `confidence`, the interval of that confidence contains the mean at
    all times together. Intervals never widen. An interval is never more exact than
    `target / 40` at each end: it is rounded outwards.

    Args:
        low: Smallest value that an observation can take.
        high: Largest value.
        confidences: Levels, each in (0, 1).
        target: Half-width at which one means to stop; the interval is valid for any.

    Example:
        >>> sequence = MeanSequence(low=0.0, high=1.0, confidences=(0.95,), target=0.05)
        >>> sequence.update([0.0, 1.0] * 800)
        >>> low, high = sequence.interval(0)
        >>> low < 0.5 < high, high - low < 0.1
        (True, True)
    """

    def __init__(
        self,
        *,
        low: float,
        high: float,
        confidences: Sequence[float],
        target: float,
    ) -> None:
        if not low < high:
            raise ValueError(f"low must be below high, not {low} and {high}.")
        if not target > 0:
            raise ValueError(f"target must be positive, not {target}.")
        if not confidences or not all(0 < level < 1 for level in confidences):
            raise ValueError(f"confidences must lie in (0, 1), not {tuple(confidences)}.")
        self.low, self.high = low, high
        count = min(max(math.ceil((high - low) / target * STEPS), 2 * STEPS), MOST_STEPS)
        self._values_G = np.linspace(low, high, count + 1)
        alpha_A = 1 - np.asarray(confidences, float)
        self._need_A = np.log(2 / alpha_A)
        self._aim_A = self._need_A + math.log(OVERSHOOT)
        self._quantile_A = -ndtri(alpha_A / 2 / OVERSHOOT)
        self._pace_A = np.full(len(confidences), float(target))
        # wealth of both gamblers (mean above, mean below) at every level and value
        self._wealth = np.zeros((len(confidences), 2, count + 1))
        with np.errstate(divide="ignore"):
            self._cap = np.stack(
                [MAX_STAKE / (self._values_G - low), MAX_STAKE / (high - self._values_G)]
            )
        self._first = [0] * len(confidences)  # values below this index are excluded
        self._last = [count] * len(confidences)  # values above this index are
        self._stakes = 0, np.zeros((len(confidences), 2, 0))
        self.count = 0
        self._sum = self._squares = self._cubes = 0.0

    def update(self, observations: Iterable[float]) -> None:
        """Take in observations, in their order.

        Raises:
            ValueError: One of them is outside the bounds, or not finite.
        """
        values = [float(value) for value in observations]
        for value in values:
            if not self.low <= value <= self.high:
                raise ValueError(
                    f"observation {value} is outside [{self.low}, {self.high}], the bounds that "
                    "the interval rests on."
                )
        while values:
            count = BLOCK - self.count % BLOCK
            self._bet(values[:count])
            values = values[count:]

    def aim(self, level: int, *, half_width: float = 0.0, most: float = math.inf) -> None:
        """Let the stakes of one level aim at another precision from now on.

        Both may depend on past observations, and on nothing else that future ones depend on.

        Args:
            level: Position in `confidences`.
            half_width: Precision at which one would stop.
            most: Number of observations, with those so far, that there can be.
        """
        end = self._quantile_A[level] * math.sqrt(SLACK * self._expected_variance() / most)
        self._pace_A[level] = max(half_width, float(end), 1e-9)

    @property
    def mean(self) -> float:
        """Mean of the observations so far; NaN before the first."""
        return self._sum / self.count if self.count else math.nan

    @property
    def variance(self) -> float:
        """Variance of the observations so far (divided by their number)."""
        if not self.count:
            return math.nan
        return max(self._squares / self.count - self.mean**2, 0.0)

    def interval(self, level: int = 0) -> tuple[float, float]:
        """Return the interval at `confidences[level]`."""
        first, last = self._first[level], self._last[level]
        if first > last:  # every value is excluded: something of probability below alpha
            middle = float(self._values_G[min(first, len(self._values_G) - 1)])
            return middle, middle
        low = self._values_G[max(first - 1, 0)]
        high = self._values_G[min(last + 1, len(self._values_G) - 1)]
        return float(low), float(high)

    def half_width(self, level: int = 0) -> float:
        """Return half the width of the interval at `confidences[level]`."""
        low, high = self.interval(level)
        return (high - low) / 2

    def _bet(self, values: Sequence[float]) -> None:
        """Let all gamblers bet on some observations of one block; stakes use the past alone."""
        start, stop = min(self._first), max(self._last) + 1
        if start < stop:
            if self.count % BLOCK == 0:
                self._stakes = start, self._new_stakes(start, stop)
            offset, stakes = self._stakes
            stakes = stakes[:, :, start - offset : stop - offset]
            gains = np.asarray(values)[:, None, None] - self._values_G[start:stop]
            factors = np.empty((len(values), *stakes.shape))
            np.multiply(stakes[:, 0], gains, out=factors[:, :, 0])
            np.multiply(stakes[:, 1], -gains, out=factors[:, :, 1])
            factors += 1
            for before, factor in itertools.pairwise(factors):  # faster than np.cumprod
                factor *= before
            # a product within a block, as a logarithm takes ten times as long
            wealth = self._wealth[:, :, start:stop]
            peaks = wealth + np.log(factors.max(0))
            wealth += np.log(factors[-1])
            for level in range(len(self._first)):
                self._exclude(level, start, peaks[level])
        self.count += len(values)
        for value in values:
            self._sum += value
            self._squares += value * value
            self._cubes += value**3

    def _new_stakes(self, start: int, stop: int) -> npt.NDArray[np.float64]:
        """Return the share of the wealth that each gambler bets, at every level and value."""
        index = (self._wealth[:, :, start:stop] - (self._aim_A - _FLOOR)[:, None, None]) / _STEP
        np.maximum(index, 0, out=index)
        np.minimum(index, len(_STAKES) - 1, out=index)
        spread, limit = self._target(self._values_G[start:stop])
        stakes = _STAKES[index.astype(np.intp)]
        stakes /= spread[:, None]
        np.minimum(stakes, limit[:, None], out=stakes)
        np.minimum(stakes, self._cap[:, start:stop], out=stakes)
        return stakes

    def _target(
        self, means: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return, per level and mean, the spread of the sum of what is to come, a stake's limit.

        The variance depends on the mean: rare losses make it grow with the mean, as that of a
        coin does, by the third central moment over the variance. A stake that leaves it out is
        ruined by one rare observation. The fewer there are, the more time is left.
        """
        variance, slope = self._expected_variance(), self._slope()
        low, high = VARIANCE_RANGE
        variance_G = variance + slope * (means - (self.mean if self.count else 0.0))
        np.maximum(variance_G, low * variance, out=variance_G)
        np.minimum(variance_G, high * variance, out=variance_G)
        once_A = (self._quantile_A / self._pace_A) ** 2 * variance
        horizon_A = SLACK * once_A + RARE_SLACK * slope**2 / variance
        left_A = np.maximum(horizon_A * (1 + TAIL) - self.count, TAIL * horizon_A)
        multiple_A = np.where(self.count < horizon_A, *KELLY)
        return (
            np.sqrt(variance_G * np.maximum(left_A, 1.0)[:, None]),
            (multiple_A * self._pace_A)[:, None] / variance_G,
        )

    def _slope(self) -> float:
        """Return how fast the variance grows with the mean: third central moment by variance."""
        if not self.count:
            return 0.0
        mean, squares, cubes = (
            total / self.count for total in (self._sum, self._squares, self._cubes)
        )
        third = (cubes - 3 * mean * squares + 2 * mean**3) * self.count
        width = self.high - self.low
        slope = third / (self.count + PRIOR_COUNT) / self._expected_variance()
        return min(max(slope, -width), width)

    def _expected_variance(self) -> float:
        prior = ((self.high - self.low) / 4) ** 2
        seen = self.count * self.variance if self.count else 0.0
        return (seen + PRIOR_COUNT * prior) / (self.count + PRIOR_COUNT)

    def _exclude(self, level: int, start: int, wealth: npt.NDArray[np.float64]) -> None:
        """Exclude the values, from either end, whose gambler has won.

        Args:
            level: Position in `confidences`.
            start: Index of the first value.
            wealth: Largest one of late, of both gamblers at every value.
        """
        need = self._need_A[level]
        above, below = wealth
        first, last = self._first[level], self._last[level]
        while first <= last and above[first - start] >= need:
            first += 1
        while last >= first and below[last - start] >= need:
            last -= 1
        self._first[level], self._last[level] = first, last
