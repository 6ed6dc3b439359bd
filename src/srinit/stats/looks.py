"""Paired differences that are looked at again and again, until they are known well enough."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from srinit.stats.sequences import MeanSequence

DECISIVE = 0.9  # of the distance from what decides, at which an interval tells the sides apart
Reason = Literal["", "precise", "decided"]


@dataclass(frozen=True, slots=True)
class Stop:
    """When the mean of paired differences in [-1, 1] is known well enough.

    Attributes:
        half_width: Of its interval.
        limit: The mean is also known where the interval lies on one side of this.
        confidence: Of the interval, however often one looks.
    """

    half_width: float
    limit: float | None = None
    confidence: float = 0.95


class Looked:
    """The mean of paired differences so far; its interval holds whenever one stops.

    Args:
        stop: When it is known well enough.

    Example:
        >>> looked = Looked(Stop(half_width=0.05))
        >>> looked.add([0.0, 1.0, 0.0, 0.0] * 200, left=800)
        >>> low, high = looked.interval
        >>> low < 0.25 < high, looked.reason
        (True, 'precise')
    """

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._sequence = MeanSequence(
            low=-1.0, high=1.0, confidences=(stop.confidence,), target=stop.half_width
        )

    def add(self, differences: Iterable[float], *, left: int) -> None:
        """Take in differences, in their order.

        Args:
            differences: Each in [-1, 1].
            left: How many there are, with these.
        """
        target_half_width, limit = self._stop.half_width, self._stop.limit
        if limit is not None and self._sequence.count:
            target_half_width = max(target_half_width, DECISIVE * abs(self._sequence.mean - limit))
        self._sequence.aim(0, half_width=target_half_width, most=self._sequence.count + left)
        self._sequence.update(differences)

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of the mean."""
        return self._sequence.interval(0)

    @property
    def side(self) -> int:
        """1 where the mean is surely above zero, -1 where it is below, else 0."""
        low, high = self.interval
        return (low > 0) - (high < 0)

    @property
    def reason(self) -> Reason:
        """Why no more differences are needed; empty where they are."""
        low, high = self.interval
        if self._stop.limit is not None and (low > self._stop.limit or high <= self._stop.limit):
            return "decided"
        return "precise" if (high - low) / 2 <= self._stop.half_width + 1e-12 else ""
