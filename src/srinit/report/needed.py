"""How many examples would show what is true of these: for criteria that only lack data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from srinit.comparison.records import Comparison, Difference, Rate
from srinit.gates import Gate
from srinit.monitor import plan_test
from srinit.records import record
from srinit.report.data import ReportInput
from srinit.stats import paired

MOST = 2.0**40  # times the data there are; beyond it no number is named


@record
class Sample:
    """The examples that a criterion was judged on, and how many it needs."""

    have: int
    need: int | None  # None: no number of examples would do
    what: str  # "images", "of_class", "defects", "goods", "site"
    of: str = ""  # the class


def sample_of(gate: Gate, report: ReportInput) -> Sample | None:
    """Return the examples behind a criterion; None where it is not judged by counting examples.

    The number is that at which the criterion passes if everything stays as it was measured: for
    losses with a chance of 80 % (`srinit.monitor.plan_test`).
    """
    on_site = gate.name.startswith("site.")
    found = report.comparison
    if on_site:
        site = report.last.site if report.last else None
        found = site.comparison if site else None
    if found is None:
        return None
    kind, _, name = gate.name.removeprefix("site.").partition(".")
    sample = _sample(kind, name, gate, found)
    return replace(sample, what="site") if sample is not None and on_site else sample


def _sample(kind: str, name: str, gate: Gate, found: Comparison) -> Sample | None:
    risk, classes = found.defects, {row.name: row for row in found.classes}
    if kind == "max_drop":
        return _loss(found.score, gate, found, "images")
    if kind == "max_class_recall_drop" and classes:
        worst = max(found.classes, key=lambda row: row.recall.high).name
        row = classes[name or worst]
        return _loss(row.recall, gate, found, "of_class", row.name)
    if kind == "max_missed_defect_increase" and risk is not None:
        rise = {row.name: row.increase for row in risk.classes}.get(name, risk.missed_increase)
        return _loss(rise, gate, found, "of_class" if name else "defects", name)
    if kind == "max_false_reject_increase" and risk is not None:
        return _loss(risk.rejected_increase, gate, found, "goods")
    if kind == "max_missed_defect_rate" and risk is not None:
        return _rate(risk.missed_pruned, lambda low, high: high <= gate.limit, "defects")
    if kind == "min_agreement":
        return _rate(found.agreement, lambda low, high: low >= gate.limit, "images")
    return None


def _loss(
    found: Difference, gate: Gate, comparison: Comparison, what: str, of: str = ""
) -> Sample | None:
    """Return the sample of a paired loss; its spread is read off its interval."""
    have = found.num_examples
    if have == 0 or found.value is None:
        return None
    loss = max(found.value, 0.0)
    if loss >= gate.limit:
        return Sample(have=have, need=None, what=what, of=of)
    reach = (found.high - found.low) / 2 / paired.quantile(comparison.confidence)
    spread = have * reach * reach
    if what == "images" and comparison.p_value is not None:
        spread = (comparison.lost + comparison.gained) / have
    planned = plan_test(
        gate.limit,
        discordant=min(max(spread, loss), 1.0),
        expected_drop=loss,
        confidence=comparison.confidence,
    )
    return Sample(have=have, need=max(planned.num_examples, have + 1), what=what, of=of)


def _rate(found: Rate, passes: Callable[[float, float], bool], what: str) -> Sample | None:
    """Return the sample of a share that stays what it is, whose interval narrows."""
    if found.total == 0:
        return None

    def enough(times: float) -> bool:
        hits, total = found.hits * times, found.total * times
        tail = (1 - found.confidence) / 2
        return passes(*paired.beta_ends(hits, total, tail))

    low, high = 1.0, 2.0
    while not enough(high) and high < MOST:
        low, high = high, 2 * high
    if high >= MOST:
        return Sample(have=found.total, need=None, what=what)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return Sample(have=found.total, need=math.ceil(found.total * high), what=what)
