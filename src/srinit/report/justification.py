"""What every removal of the plan rests on: its place, and the losses measured before the cut."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from srinit.plan import Removal, RemovalEvidence
from srinit.records import Interval, record
from srinit.report import formats as fmt
from srinit.report.charts import track
from srinit.report.data import ReportInput
from srinit.report.removals import treated
from srinit.report.scores import agreement, criterion_name, other_scores, shown
from srinit.report.text import LocalizedText, Translator

LOSSES = tuple(RemovalEvidence().losses)  # the kinds of what was measured


@record
class Loss:
    """One measured loss of one removal, in points."""

    kind: str
    label: LocalizedText
    value: str
    range: str
    strip: Markup


@record
class JustificationRow:
    """One removal."""

    number: int  # from 1, in the order of removal
    name: str
    basis: tuple[LocalizedText, ...]
    losses: tuple[Loss, ...]


@record
class Justification:
    """What the page shows of the evidence."""

    lead: LocalizedText
    rows: tuple[JustificationRow, ...] = ()
    agreement: LocalizedText | None = None
    note: LocalizedText | None = None


def justification_view(report: ReportInput, say: Translator) -> Justification:
    """Return the removals of the plan with what each rests on."""
    ends = [0.0, 0.05]
    for removal in report.plan.remove:
        for value, interval in removal.evidence.losses.values():
            ends += [] if value is None else [value]
            ends += [] if interval is None else [interval.low, interval.high]
    extent = (min(ends) - 0.01, max(ends) + 0.01)
    rounds = _round_of(report)
    return Justification(
        lead=_lead(report, say),
        rows=tuple(
            JustificationRow(
                number=number,
                name=removal.unit.name,
                basis=_basis(report, removal, rounds, say),
                losses=tuple(
                    _loss(kind, value, interval, extent, say)
                    for kind, (value, interval) in removal.evidence.losses.items()
                    if value is not None
                ),
            )
            for number, removal in enumerate(report.plan.remove, start=1)
        ),
        agreement=agreement(report, say),
        note=say("proof.note", treated=treated(report, say))
        if any(removal.evidence.alone for removal in report.plan.remove)
        else None,
    )


def _lead(report: ReportInput, say: Translator) -> LocalizedText:
    tried = [r.evidence.alone for r in report.plan.remove if r.evidence.alone is not None]
    if not tried:
        return say("proof.untried")
    read = {
        trial.num_examples
        for removal in report.plan.remove
        for trial in (removal.evidence.alone, removal.evidence.joint)
        if trial is not None
    }
    key = "proof.tried_on" if len(read) == 1 else "proof.tried_on_up_to"
    return say(key, num=fmt.fixed(max(read)))


def _basis(
    report: ReportInput, removal: Removal, rounds: Mapping[str, int], say: Translator
) -> tuple[LocalizedText, ...]:
    name = removal.unit.name
    found = []
    if name in rounds:
        found.append(say("proof.round", number=str(rounds[name])))
    if not rounds and name in report.plan.target.get("remove", ()):
        return (*found, say("proof.named"))
    scores = other_scores(report)
    value = removal.evidence.score
    if scores is not None and value is not None:
        found.append(
            say(
                "proof.score",
                criterion=criterion_name(report.plan.criterion, say),
                value=shown(value, scores),
            )
        )
    return tuple(found)


def _round_of(report: ReportInput) -> dict[str, int]:
    """Return the round that removed each unit; empty where there is one round."""
    if report.outcome is None:
        return {}
    found: dict[str, int] = {}
    for round_ in report.rounds:
        for name in round_.removed:
            found.setdefault(name, round_.number)
    return found


def _loss(
    kind: str, value: float, interval: Interval | None, extent: tuple[float, float], say: Translator
) -> Loss:
    ends = () if interval is None else (interval.low, interval.high)
    low_high = ", ".join(fmt.points(end, 1, signed=False) for end in ends)
    return Loss(
        kind=kind,
        label=say(f"proof.{kind}"),
        value=fmt.points(value, 1, signed=False),
        range=f"[{low_high}]" if ends else "",
        strip=track(*extent, value=value, within=interval),
    )
