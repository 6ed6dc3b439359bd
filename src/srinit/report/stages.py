"""Pruning stage by stage: the dip after every cut, its recovery, and stages that were rejected."""

from __future__ import annotations

from typing import Literal

from markupsafe import Markup

from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.charts import Axis, Line, line_chart
from srinit.report.data import ReportInput, StageInput
from srinit.report.decision import gate_text
from srinit.report.text import Say, Text, join

Fate = Literal["delivered", "passed", "rejected"]
POINTS = ("cut", "compensated", "tuned")  # thirds of a stage on the horizontal axis


@record
class StageRow:
    """One stage: what it cut, how deep the dip was, what came back, how it was judged."""

    number: int
    fate: Fate
    state: Text | None  # none where it was cut once
    removed: tuple[str, ...]  # by this stage alone
    scores: tuple[str, ...]  # start, after the cut, compensated, tuned
    dip: str  # in points, from the start
    recovered: str  # what is left of it after fine-tuning, in points
    loss: Text | None  # against the unpruned network on validation data, with its interval
    why: tuple[Text, ...]  # gates that failed
    sources: tuple[str, ...]


@record
class Stages:
    """What the page and the summary say of the stages."""

    lead: Text
    rows: tuple[StageRow, ...] = ()
    curve: Markup = Markup("")
    has_loss: bool = False


def stages_view(report: ReportInput, say: Say) -> Stages:
    """Return the stages with scores, those that are delivered first, then the rejected ones."""
    tried = [*_with_scores(report.stages), *_with_scores(report.rejected)]
    rows: list[StageRow] = []
    gone: tuple[str, ...] = ()
    start: float | None = None
    for stage in tried:
        row = _row(stage, report, gone, start, say)
        rows.append(row)
        if row.fate != "rejected":
            gone, start = stage.removed, score(stage, "tuned")
    return Stages(
        lead=_lead(report, rows, say),
        rows=tuple(rows),
        curve=_curve(report, say),
        has_loss=any(row.loss for row in rows),
    )


def score(stage: StageInput, key: str) -> float | None:
    """Return one score of a round on validation data; None where it was not measured."""
    if stage.cut is None:
        return None
    if key == "tuned":
        return stage.tune.score_after if stage.tune else None
    value: float | None = getattr(stage.cut, f"score_{key}")
    return value


def _with_scores(stages: tuple[StageInput, ...]) -> list[StageInput]:
    return [stage for stage in stages if stage.cut is not None]


def _row(
    stage: StageInput, report: ReportInput, gone: tuple[str, ...], start: float | None, say: Say
) -> StageRow:
    if start is None:
        start = score(stage, "before")
    fate = _fate(stage, report)
    found = [start, *(score(stage, key) for key in POINTS)]
    loss = stage.validation.score if stage.validation else None
    failed = stage.validation_gates.failed if stage.validation_gates else ()
    folder = f"{'rejected' if stage in report.rejected else 'stages'}/{stage.number:02d}"
    return StageRow(
        number=stage.number,
        fate=fate,
        state=None if report.outcome is None else say(f"stages.{fate}"),
        removed=tuple(name for name in stage.removed if name not in gone),
        scores=tuple(fmt.percent(value, 2) for value in found),
        dip=_change(start, found[1]),
        recovered=_change(start, found[3]),
        loss=None
        if loss is None
        else say(
            "stages.loss",
            points=fmt.points(None if loss.drop is None else -loss.drop),
            range=fmt.ends(fmt.points(-loss.high), fmt.points(-loss.low)),
        ),
        why=tuple(gate_text(gate, say, report.roi.currency) for gate in failed),
        sources=tuple(f"{folder}/{n}.json" for n in ("metrics", "tune", "validation_gate")),
    )


def _fate(stage: StageInput, report: ReportInput) -> Fate:
    if stage in report.rejected:
        return "rejected"
    if report.outcome is not None and not report.outcome.accepted:
        return "rejected"  # the first stage failed; it is reported, there is nothing before it
    return "delivered" if stage is report.last else "passed"


def _change(start: float | None, value: float | None) -> str:
    return fmt.points(None if start is None or value is None else value - start)


def _lead(report: ReportInput, rows: list[StageRow], say: Say) -> Text:
    outcome = report.outcome
    if outcome is None:
        return say("stages.one")
    kept = [row for row in rows if row.fate != "rejected"]
    failed = [row for row in rows if row.fate == "rejected"]
    if not kept:
        return say("stages.first_failed")
    lead = say("stages.lead", tried=str(len(rows)), delivered=str(outcome.delivered))
    if failed:
        return join([lead, say("stages.stopped", number=str(failed[0].number))], ja="", en=" ")
    return join([lead, say("stages.no_way" if outcome.reason else "stages.reached")], ja="", en=" ")


def _curve(report: ReportInput, say: Say) -> Markup:
    """Return scores on validation data; what was rejected branches off, dashed."""
    kept = _with_scores(report.stages)
    if not kept or (report.outcome is not None and not report.outcome.accepted and not kept):
        return Markup("")
    path = [(0.0, score(kept[0], "before"))]
    for place, stage in enumerate(kept, start=1):
        path += _thirds(place, stage)
    branches = []
    for stage in _with_scores(report.rejected):
        branches.append([path[-1], *_thirds(len(kept) + 1, stage)])
    values = [100 * y for part in (path, *branches) for _, y in part if y is not None]
    if len(values) < 2:
        return Markup("")
    low, high = min(values), max(values)
    air = max((high - low) * 0.1, 1.0)
    last = len(kept) + bool(branches)
    lines = [_line(path, say("stages.kept"), 0, measured=True)]
    lines += [_line(part, say("stages.rejected"), 1, measured=False) for part in branches[:1]]
    ticks: tuple[float, ...] = tuple(range(last + 1))
    names: tuple[Text, ...] = ()
    if last == 1:
        ticks = (0.0, 1 / 3, 2 / 3, 1.0)
        names = tuple(say(f"stages.tick.{key}") for key in ("start", *POINTS))
    return line_chart(
        lines,
        Axis(
            label=say("axis.stage" if last > 1 else "axis.step"),
            low=0,
            high=last,
            ticks=ticks,
            names=names,
        ),
        Axis(label=say("axis.accuracy"), low=max(0.0, low - air), high=min(100.0, high + air)),
    )


def _thirds(place: int, stage: StageInput) -> list[tuple[float, float | None]]:
    return [(place - 1 + (i + 1) / 3, score(stage, key)) for i, key in enumerate(POINTS)]


def _line(
    path: list[tuple[float, float | None]], label: Text, color: int, *, measured: bool
) -> Line:
    known = [(x, y) for x, y in path if y is not None]
    return Line(
        label=label,
        x=tuple(x for x, _ in known),
        y=tuple(100 * y for _, y in known),
        color=color,
        solid=(measured,) * len(known),
    )
