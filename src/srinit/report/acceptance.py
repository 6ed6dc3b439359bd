"""The acceptance criteria as people read them: limit, measured value, worst case, met or not."""

from __future__ import annotations

from srinit.comparison.records import Comparison
from srinit.gates import Gate
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.data import ReportInput
from srinit.report.text import LocalizedText, Translator, untranslated

SHARES = (
    "max_latency_ratio",
    "max_perplexity_ratio",
    "max_params_ratio",
    "min_agreement",
    "max_missed_defect_rate",
)
COUNT = "max_worse_classes"


@record
class CriterionRow:
    """One limit that was set beforehand, and how the network stands to it."""

    name: LocalizedText
    limit: LocalizedText
    measured: LocalizedText
    worst: LocalizedText  # the unfavorable end of the interval, which is what is judged
    passed: bool


def criteria_rows(report: ReportInput, say: Translator) -> tuple[CriterionRow, ...]:
    """Return every criterion of the last round, the site's own among them, in the order given."""
    gates = report.gates.gates if report.gates else ()
    return tuple(criterion_row(gate, report, say) for gate in gates)


def criterion_row(gate: Gate, report: ReportInput, say: Translator) -> CriterionRow:
    """Return one criterion."""
    currency = report.roi.currency
    direction = "least" if _kind(gate).startswith("min_") else "most"
    return CriterionRow(
        name=gate_name(gate, say, report.comparison),
        limit=say(f"gate.limit_{direction}", limit=amount(gate, gate.limit, say, currency)),
        measured=amount(gate, gate.measured, say, currency),
        worst=amount(gate, gate.bound, say, currency),
        passed=gate.passed,
    )


def gate_name(gate: Gate, say: Translator, comparison: Comparison | None = None) -> LocalizedText:
    """Return what a criterion limits; with a comparison, which class or batch is the worst."""
    kind, of_class = _kind(gate), _of_class(gate)
    name = say(f"gate.{kind}") if say.has(f"gate.{kind}") else untranslated(gate.name)
    if of_class and say.has(f"gate.of.{kind}"):
        name = say(f"gate.of.{kind}", name=of_class)
    elif comparison is not None and not gate.name.startswith("site."):
        name = _with_worst(kind, name, comparison, say)
    return say("gate.on_site", name=name) if gate.name.startswith("site.") else name


def gate_text(gate: Gate, say: Translator, currency: str = "JPY") -> LocalizedText:
    """Return one criterion as a sentence: what was measured, its unfavorable end, the limit."""
    kind = _kind(gate)
    values = {"measured": gate.measured, "bound": gate.bound, "limit": gate.limit}
    if kind in SHARES or kind == "max_cost_increase":
        key = "gate.at_least" if kind.startswith("min_") else "gate.at_most"
        shown = {name: amount(gate, value, say, currency) for name, value in values.items()}
        return say(key, name=gate_name(gate, say), **shown)
    if kind == COUNT:
        numbers = {name: fmt.fixed(value) for name, value in values.items() if name != "bound"}
        return say("gate.count", name=gate_name(gate, say), **numbers)
    numbers = {name: fmt.points(value, signed=False) for name, value in values.items()}
    return say("gate.loss", name=gate_name(gate, say), **numbers)


def amount(gate: Gate, value: float | None, say: Translator, currency: str) -> LocalizedText:
    """Return a value of a criterion with its unit."""
    if value is None:
        return untranslated(fmt.NOTHING)
    if _kind(gate) in SHARES:
        return untranslated(fmt.percent(value))
    if _kind(gate) == COUNT:
        return untranslated(fmt.fixed(value))
    if _kind(gate) == "max_cost_increase":
        return fmt.unit_cost(value, currency)
    return say("figure.points", points=fmt.points(value, signed=False))


def _kind(gate: Gate) -> str:
    return gate.name.removeprefix("site.").partition(".")[0]


def _of_class(gate: Gate) -> str:
    return gate.name.removeprefix("site.").partition(".")[2]


def _with_worst(
    kind: str, name: LocalizedText, comparison: Comparison, say: Translator
) -> LocalizedText:
    if kind == "max_class_recall_drop" and comparison.classes:
        worst = max(comparison.classes, key=lambda row: row.recall.high)
        return say("gate.worst", name=name, worst=worst.name)
    if kind == "max_latency_ratio" and comparison.latency:
        pair = max(comparison.latency, key=lambda pair: pair.ratio.high)
        batch = say("times.batch", batch=str(pair.baseline.batch_size))
        return say("gate.worst", name=name, worst=batch)
    return name
