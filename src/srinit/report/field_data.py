"""The part of the comparison on the site's own data: with labels, without, and who flipped."""

from __future__ import annotations

from srinit.comparison.field_data import FieldComparison, FlippedExample
from srinit.comparison.records import Comparison
from srinit.gates import GateResult
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.text import LocalizedText, Translator, join

MOST_ROWS = 20


@record
class FlippedRow:
    """An example with another answer than before."""

    name: str
    label: str
    before: str
    after: str


@record
class FieldView:
    """What the page shows of the site's data."""

    lines: tuple[LocalizedText, ...]
    rows: tuple[FlippedRow, ...]
    more: LocalizedText | None  # where not all are shown


def field_view(found: FieldComparison, gates: GateResult | None, say: Translator) -> FieldView:
    """Return sentences and rows; labeled and unlabeled examples each have their own."""
    lines: list[LocalizedText] = []
    if found.comparison is not None:
        lines.append(_labeled(found.comparison, say))
        lines += _errors(found.comparison, say)
    if found.unlabeled is not None:
        part = found.unlabeled
        lines.append(
            say(
                "site.unlabeled",
                num=fmt.fixed(part.num_examples),
                rate=fmt.percent(part.agreement.rate, 2),
                range=fmt.ends(
                    fmt.percent(part.agreement.low, 2), fmt.percent(part.agreement.high, 2)
                ),
                bound=fmt.percent(1 - part.agreement.low, 2),
                shift=fmt.points(part.confidence_shift.value),
                ends=fmt.ends(
                    fmt.points(part.confidence_shift.low), fmt.points(part.confidence_shift.high)
                ),
            )
        )
    if gates is not None and gates.gates:
        names = join(
            [say("site.gate", name=_name(g.name, say), state=_state(g.passed, say))
             for g in gates.gates]
        )  # fmt: skip
        lines.append(say("site.gates", gates=names))
    shown = found.flipped[:MOST_ROWS]
    return FieldView(
        lines=tuple(lines),
        rows=tuple(_row(example) for example in shown),
        more=None
        if len(shown) == len(found.flipped)
        else say("site.more", num=fmt.fixed(len(found.flipped)), shown=fmt.fixed(len(shown))),
    )


def tested_text(found: FieldComparison, say: Translator) -> LocalizedText:
    """Return what was tested on the site's data, in one line."""
    return say(
        "tested.site", num=fmt.fixed(found.num_examples), labeled=fmt.fixed(found.num_labeled)
    )


def _labeled(found: Comparison, say: Translator) -> LocalizedText:
    score = found.score
    return say(
        "site.labeled",
        num=fmt.fixed(found.num_examples),
        before=fmt.percent(score.baseline, 2),
        after=fmt.percent(score.pruned, 2),
        change=fmt.points(None if score.drop is None else -score.drop),
        range=fmt.ends(fmt.points(-score.high), fmt.points(-score.low)),
        p=fmt.p_value(found.p_value),
        rate=fmt.percent(found.agreement.rate, 2),
    )


def _errors(found: Comparison, say: Translator) -> list[LocalizedText]:
    risk = found.defects
    if risk is None:
        return []
    return [
        say(
            "site.errors",
            defects=fmt.fixed(risk.missed_pruned.total),
            missed_before=fmt.fixed(risk.missed_baseline.hits),
            missed=fmt.fixed(risk.missed_pruned.hits),
            high=fmt.percent(risk.missed_pruned.high, 2),
            good=fmt.fixed(risk.rejected_pruned.total),
            rejected_before=fmt.fixed(risk.rejected_baseline.hits),
            rejected=fmt.fixed(risk.rejected_pruned.hits),
        )
    ]


def _name(gate: str, say: Translator) -> LocalizedText:
    kind, _, of_class = gate.partition(".")
    return say(f"gate.of.{kind}", name=of_class) if of_class else say(f"gate.{kind}")


def _state(passed: bool, say: Translator) -> LocalizedText:
    return say("gate.passed" if passed else "gate.failed")


def _row(example: FlippedExample) -> FlippedRow:
    return FlippedRow(
        name=example.name,
        label=example.label or fmt.NOTHING,
        before=f"{example.baseline} ({fmt.percent(example.confidence_baseline)})",
        after=f"{example.pruned} ({fmt.percent(example.confidence_pruned)})",
    )
