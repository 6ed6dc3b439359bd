"""Windows of production data against the baseline: what is beyond its limit, and by how much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from srinit.errors import DataError
from srinit.monitor.limits import Limits, Reference
from srinit.monitor.observations import Observations
from srinit.records import record

SCHEMA = "srinit.monitor/1"
MIN_WINDOW = 30


@record
class Finding:
    """One quantity in one window."""

    quantity: str
    effect: float  # distance from the baseline, in [0, 1]
    limit: float  # good windows stay below it
    beyond: bool
    window_examples: int
    baseline_examples: int
    p_value: float  # share of good windows at least as far away
    permutation_p: float | None = None  # of the features, where they are beyond the limit


@record
class Window:
    """One window of production data."""

    first: int  # position of its first example, counted from 0
    num_examples: int
    findings: tuple[Finding, ...]

    @property
    def beyond(self) -> tuple[str, ...]:
        """The quantities beyond their limits."""
        return tuple(found.quantity for found in self.findings if found.beyond)


@record
class DriftReport:
    """What monitoring found."""

    alarm: bool
    causes: tuple[str, ...]  # quantities that were beyond in enough windows in a row
    first_alarm: int | None  # window that completed the first alarm, counted from 0
    false_alarm: float  # share of good windows that go beyond any limit
    confirm: int
    windows: tuple[Window, ...]
    examples_left: int  # behind the last whole window


def detect_drift(
    reference: Reference,
    observed: Observations,
    *,
    window: int = 500,
    false_alarm: float = 0.01,
    confirm: int = 2,
    min_effect: float = 0.02,
    resamples: int = 1000,
    block: int = 1,
) -> DriftReport:
    """Return the windows of some data and whether they raise an alarm.

    A quantity raises an alarm when it is beyond its limit in `confirm` windows in a row (or in
    all of them, if there are fewer). Rates that can only fall, the agreement with the unpruned
    network and the accuracy on labels that came later, are limited by the exact test of two
    rates; the rest as `srinit.monitor.limits` says.

    Args:
        reference: The baseline.
        observed: Production data in its order.
        window: Examples of a window; if there are fewer, all of them are one.
        false_alarm: Share of good windows that may go beyond any limit, over all quantities.
        confirm: Windows in a row.
        min_effect: Distances below this never count.
        resamples: Good windows that are drawn to set the limits.
        block: Examples that are drawn together; see `Reference.limits`.

    Raises:
        DataError: Fewer than 30 examples.
    """
    if len(observed) < MIN_WINDOW:
        raise DataError(
            f"{len(observed)} examples are too few to watch; wait for {MIN_WINDOW} at least."
        )
    window = max(min(window, len(observed)), MIN_WINDOW)
    names = reference.watched(observed)
    rates = [n for n in ("agrees", "right") if _watches(reference, observed, n)]
    share = false_alarm / (len(names) + len(rates))
    limits = reference.limits(
        names,
        window=window,
        false_alarm=share * len(names),
        min_effect=min_effect,
        resamples=resamples,
        block=block,
    )
    windows: list[Window] = []
    for first in range(0, len(observed) - window + 1, window):
        part = observed.part(slice(first, first + window))
        findings = _distances(reference, part, limits)
        findings += [f for n in rates if (f := _rate(reference, part, n, share, min_effect))]
        windows.append(Window(first=first, num_examples=len(part), findings=tuple(findings)))
    causes, at = _alarms(windows, min(confirm, len(windows)))
    return DriftReport(
        alarm=bool(causes),
        causes=causes,
        first_alarm=at,
        false_alarm=false_alarm,
        confirm=confirm,
        windows=tuple(windows),
        examples_left=len(observed) % window,
    )


def _distances(reference: Reference, part: Observations, limits: Limits) -> list[Finding]:
    found = []
    for name, effect in reference.distances(part).items():
        beyond = effect > limits.limit[name]
        found.append(
            Finding(
                quantity=name,
                effect=effect,
                limit=limits.limit[name],
                beyond=beyond,
                window_examples=len(part),
                baseline_examples=len(reference.sample),
                p_value=limits.p_value(name, effect),
                permutation_p=(
                    reference.permutation_p(part) if beyond and name == "features" else None
                ),
            )
        )
    return found


def _watches(reference: Reference, observed: Observations, name: str) -> bool:
    return getattr(reference.whole, name) is not None and getattr(observed, name) is not None


def _rate(
    reference: Reference, part: Observations, name: str, alpha: float, min_effect: float
) -> Finding | None:
    """Return the fall of a rate; the limit is the fall at which the exact test rejects."""
    before, after = getattr(reference.whole, name), getattr(part, name)
    before, after = before[~np.isnan(before)], after[~np.isnan(after)]
    if not len(before) or not len(after):
        return None
    hits, total, count = int(before.sum()), len(before), len(after)
    rate = hits / total
    now = int(after.sum())
    # Given the hits of both together, those of the window are hypergeometric (Fisher).
    p_value = float(stats.hypergeom.cdf(now, total + count, hits + now, count))
    limit = max(rate - _fewest(hits, total, count, alpha) / count, min_effect)
    effect = rate - now / count
    return Finding(
        quantity={"agrees": "agreement", "right": "accuracy"}[name],
        effect=max(effect, 0.0),
        limit=limit,
        beyond=effect > limit,
        window_examples=count,
        baseline_examples=total,
        p_value=p_value,
    )


def _fewest(hits: int, total: int, count: int, alpha: float) -> int:
    """Return the fewest hits among `count` that Fisher's one-sided test does not reject."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        rejected = stats.hypergeom.cdf(middle, total + count, hits + middle, count) < alpha
        low, high = (middle + 1, high) if rejected else (low, middle)
    return low


def _alarms(windows: Sequence[Window], confirm: int) -> tuple[tuple[str, ...], int | None]:
    """Return the quantities that were beyond `confirm` times in a row, and when first."""
    run: dict[str, int] = {}
    causes: dict[str, int] = {}
    for number, window in enumerate(windows):
        run = {name: run.get(name, 0) + 1 for name in window.beyond}
        for name, length in run.items():
            if length >= confirm:
                causes.setdefault(name, number)
    return tuple(causes), min(causes.values(), default=None)


def describe(found: DriftReport) -> list[str]:
    """Return the last window in words, a line a quantity, with sizes and limits."""
    lines = []
    for finding in found.windows[-1].findings:
        sign = "BEYOND" if finding.beyond else "within"
        lines.append(
            f"{finding.quantity}: {finding.effect:.3f}, {sign} its limit {finding.limit:.3f} "
            f"({finding.window_examples} examples against {finding.baseline_examples})"
        )
    return lines
