"""How far a scan is: units decided, half-widths, time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from srinit.sensitivity.design import num_observations
from srinit.sensitivity.tally import Goal, Tally

OnProgress = Callable[[float, float | None, str], None]
"""Called with (units' worth of work done, units in all, a note in words)."""


class Progress:
    """Turns the state of a scan into a fraction and a time left.

    Args:
        goal: What is asked for.
        weights: Cost of one example of each unit, in any one measure.
        total_examples: All there are.
        on_progress: Who wants to know.
    """

    def __init__(
        self,
        goal: Goal,
        weights: Mapping[str, float],
        total_examples: int,
        on_progress: OnProgress | None,
    ) -> None:
        self._goal = goal
        self._weights = weights
        self._total = total_examples
        self._tell = on_progress
        self._began = time.perf_counter()
        self._before = 0.0  # work that a journal brought, and took no time now

    def start(self, tallies: Sequence[Tally]) -> None:
        """Begin to count time."""
        self._began = time.perf_counter()
        self._before = sum(self._done(tally) for tally in tallies)

    def seconds_left(self, tallies: Sequence[Tally]) -> float | None:
        """Return how long the rest may take; None where nothing was measured yet."""
        done = sum(self._done(tally) for tally in tallies) - self._before
        if done <= 0:
            return None
        left = sum(
            self._weights[tally.name] * self.examples_left(tally)
            for tally in tallies
            if not tally.is_done
        )
        return (time.perf_counter() - self._began) * left / done

    def _done(self, tally: Tally) -> float:
        return self._weights[tally.name] * tally.num_examples

    def examples_left(self, tally: Tally) -> float:
        """Return about how many examples a unit still needs."""
        left = float(self._total - tally.num_examples)
        if not tally.drops:
            return left
        between, within = tally.variances()
        each = tally.num_examples / len(tally.drops)
        variance = between + within / each + 1 / 16 / len(tally.drops)
        need = num_observations(variance, self._goal.pace, self._goal.confidence)
        return min(max(need - len(tally.drops), 1.0) * each, left)

    def tell(self, tallies: Sequence[Tally]) -> None:
        """Report to the callback."""
        if self._tell is None:
            return
        open_ones = [tally for tally in tallies if not tally.is_done]
        done = float(len(tallies) - len(open_ones))
        for tally in open_ones:
            whole = tally.num_examples + self.examples_left(tally)
            done += min(tally.num_examples / whole, 0.99) if whole else 0.0
        note = f"{len(tallies) - len(open_ones)} of {len(tallies)} units decided"
        widths = [tally.half_width for tally in tallies if tally.drops]
        if widths:
            note += f", half-widths {min(widths):.3f} to {max(widths):.3f}"
        seconds = self.seconds_left(tallies)
        if seconds is not None and open_ones:
            note += f", about {seconds:.0f} s left"
        self._tell(done, float(len(tallies)), note)
