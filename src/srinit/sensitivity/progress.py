"""How far a scan is: units decided, half-widths, time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from srinit.sensitivity.design import num_observations
from srinit.sensitivity.drop_estimator import DropEstimator, StoppingRule

OnProgress = Callable[[float, float | None, str], None]
"""Called with (units' worth of work done, units in all, a note in words)."""


class Progress:
    """Turns the state of a scan into a fraction and a time left.

    Args:
        rule: What is asked for.
        weights: Cost of one example of each unit, in any one measure.
        total_examples: All there are.
        on_progress: Who wants to know.
    """

    def __init__(
        self,
        rule: StoppingRule,
        weights: Mapping[str, float],
        total_examples: int,
        on_progress: OnProgress | None,
    ) -> None:
        self._rule = rule
        self._weights = weights
        self._total = total_examples
        self._tell = on_progress
        self._began = time.perf_counter()
        self._before = 0.0  # work that a journal brought, and took no time now

    def start(self, estimators: Sequence[DropEstimator]) -> None:
        """Begin to count time."""
        self._began = time.perf_counter()
        self._before = sum(self._done(estimator) for estimator in estimators)

    def seconds_left(self, estimators: Sequence[DropEstimator]) -> float | None:
        """Return how long the rest may take; None where nothing was measured yet."""
        done = sum(self._done(estimator) for estimator in estimators) - self._before
        if done <= 0:
            return None
        left = sum(
            self._weights[estimator.name] * self.examples_left(estimator)
            for estimator in estimators
            if not estimator.is_done
        )
        return (time.perf_counter() - self._began) * left / done

    def _done(self, estimator: DropEstimator) -> float:
        return self._weights[estimator.name] * estimator.num_examples

    def examples_left(self, estimator: DropEstimator) -> float:
        """Return about how many examples a unit still needs."""
        left = float(self._total - estimator.num_examples)
        if not estimator.drops:
            return left
        between, within = estimator.variances()
        each = estimator.num_examples / len(estimator.drops)
        variance = between + within / each + 1 / 16 / len(estimator.drops)
        need = num_observations(variance, self._rule.target_half_width, self._rule.confidence)
        return min(max(need - len(estimator.drops), 1.0) * each, left)

    def tell(self, estimators: Sequence[DropEstimator]) -> None:
        """Report to the callback."""
        if self._tell is None:
            return
        open_ones = [estimator for estimator in estimators if not estimator.is_done]
        done = float(len(estimators) - len(open_ones))
        for estimator in open_ones:
            whole = estimator.num_examples + self.examples_left(estimator)
            done += min(estimator.num_examples / whole, 0.99) if whole else 0.0
        note = f"{len(estimators) - len(open_ones)} of {len(estimators)} units decided"
        widths = [estimator.half_width for estimator in estimators if estimator.drops]
        if widths:
            note += f", half-widths {min(widths):.3f} to {max(widths):.3f}"
        seconds = self.seconds_left(estimators)
        if seconds is not None and open_ones:
            note += f", about {seconds:.0f} s left"
        self._tell(done, float(len(estimators)), note)
