"""What every removal of the plan rests on: its place, and the losses measured before the cut."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from markupsafe import Markup

from srinit.plan import Removal
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.charts import track
from srinit.report.data import ReportInput
from srinit.report.removals import treated
from srinit.report.scores import agreement, criterion_name, other_scores, shown
from srinit.report.text import Say, Text

# What was measured, and the keys of its value and interval in the plan's evidence.
LOSSES = {
    "reinit": ("reinit_drop", "low", "high"),
    "alone": ("trial_cost", "trial_low", "trial_high"),
    "joint": ("joint_cost", "joint_low", "joint_high"),
}


@record
class Loss:
    """One measured loss of one removal, in points."""

    kind: str
    label: Text
    value: str
    range: str
    strip: Markup


@record
class EvidenceRow:
    """One removal."""

    number: int  # from 1, in the order of removal
    name: str
    basis: tuple[Text, ...]
    losses: tuple[Loss, ...]


@record
class Evidence:
    """What the page shows of the evidence."""

    lead: Text
    rows: tuple[EvidenceRow, ...] = ()
    agreement: Text | None = None
    note: Text | None = None


def evidence_view(report: ReportInput, say: Say) -> Evidence:
    """Return the removals of the plan with what each rests on."""
    ends = [0.0, 0.05]
    for removal in report.plan.remove:
        keys = chain.from_iterable(LOSSES.values())
        ends += [value for key in keys if (value := removal.evidence.get(key)) is not None]
    extent = (min(ends) - 0.01, max(ends) + 0.01)
    stages = _stage_of(report)
    return Evidence(
        lead=_lead(report, say),
        rows=tuple(
            EvidenceRow(
                number=number,
                name=removal.unit.name,
                basis=_basis(report, removal, stages, say),
                losses=tuple(
                    _loss(kind, removal.evidence, extent, say)
                    for kind, (key, _, _) in LOSSES.items()
                    if removal.evidence.get(key) is not None
                ),
            )
            for number, removal in enumerate(report.plan.remove, start=1)
        ),
        agreement=agreement(report, say),
        note=say("proof.note", treated=treated(report, say)),
    )


def _lead(report: ReportInput, say: Say) -> Text:
    tried = [r.evidence for r in report.plan.remove if "trial_cost" in r.evidence]
    if not tried:
        return say("proof.untried")
    read = {e.get(key) for e in tried for key in ("trial_examples", "joint_examples")}
    nums = [num for num in read if num is not None]
    if not nums:
        return say("proof.tried")
    key = "proof.tried_on" if len(nums) == 1 else "proof.tried_on_up_to"
    return say(key, num=fmt.fixed(max(nums)))


def _basis(
    report: ReportInput, removal: Removal, stages: Mapping[str, int], say: Say
) -> tuple[Text, ...]:
    name = removal.unit.name
    found = []
    if name in stages:
        found.append(say("proof.stage", number=str(stages[name])))
    if not stages and name in report.plan.target.get("remove", ()):
        return (*found, say("proof.named"))
    scores = other_scores(report)
    value = removal.evidence.get(report.plan.criterion)
    if scores is not None and value is not None:
        found.append(
            say(
                "proof.score",
                criterion=criterion_name(report.plan.criterion, say),
                value=shown(value, scores),
            )
        )
    return tuple(found)


def _stage_of(report: ReportInput) -> dict[str, int]:
    """Return the stage that removed each unit; empty where there is one stage."""
    if report.outcome is None:
        return {}
    found: dict[str, int] = {}
    for stage in report.stages:
        for name in stage.removed:
            found.setdefault(name, stage.number)
    return found


def _loss(
    kind: str, evidence: Mapping[str, float | None], extent: tuple[float, float], say: Say
) -> Loss:
    value, low, high = (evidence.get(key) for key in LOSSES[kind])
    known = low is not None and high is not None
    return Loss(
        kind=kind,
        label=say(f"proof.{kind}"),
        value=fmt.points(value, 1, signed=False),
        range=f"[{fmt.points(low, 1, signed=False)}, {fmt.points(high, 1, signed=False)}]"
        if known
        else "",
        strip=track(*extent, value=value, low=low, high=high),
    )
