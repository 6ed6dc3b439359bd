"""The comparison section: stages, classes, error kinds, training curves, latency, gates."""

from __future__ import annotations

from markupsafe import Markup

from srinit.comparison.records import ClassChange, Comparison, DefectRisk, Rate
from srinit.finetune.records import TuneLog
from srinit.latency import LatencyPair
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.charts import Axis, Line, line_chart, track
from srinit.report.data import ReportInput, StageInput
from srinit.report.decision import gate_text
from srinit.report.shift import ShiftView, shift_view
from srinit.report.text import Say, Text, same

MOST_CLASSES = 30  # rows of the table of classes


@record
class GateRow:
    """One gate."""

    passed: bool
    text: Text


@record
class ClassRow:
    """One class: recall and precision before and after."""

    name: str
    num_examples: str
    before: str
    after: str
    change: str
    range: str
    precision_before: str
    precision_after: str
    adjusted: str
    strip: Markup


@record
class ErrorRow:
    """One kind of error in counts."""

    name: Text
    before: Text
    after: Text
    change: Text
    range: Text


@record
class TimeRow:
    """Latency at one batch size."""

    batch: str
    device: str
    before: str
    after: str
    ratio: str
    range: Text
    before_strip: Markup
    after_strip: Markup


@record
class Differences:
    """What the section shows; empty parts are left out of the page."""

    gates: tuple[GateRow, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    errors: tuple[ErrorRow, ...] = ()
    times: tuple[TimeRow, ...] = ()
    recovery: Markup = Markup("")
    recovery_rows: tuple[tuple[Text, str], ...] = ()
    training: Markup = Markup("")
    training_note: Text | None = None
    agreement: Text | None = None
    sample_note: Text | None = None
    most: Text | None = None  # where not every class is shown
    shift: ShiftView | None = None


def differences_view(report: ReportInput, say: Say) -> Differences:
    """Return the rows and drawings of the comparison section."""
    found = report.comparison
    tune = report.last.tune if report.last else None
    gates = report.gates.gates if report.gates else ()
    return Differences(
        gates=tuple(GateRow(passed=gate.passed, text=gate_text(gate, say)) for gate in gates),
        classes=_classes(found) if found else (),
        errors=_errors(found.defects, say) if found and found.defects else (),
        times=_times(found, report.onnx_latency),
        recovery=_recovery(report.stages, say),
        recovery_rows=_recovery_rows(report.stages, say),
        training=_training(tune, say) if tune else Markup(""),
        training_note=_training_note(tune, say) if tune else None,
        agreement=_agreement(found, say) if found else None,
        sample_note=_sample_note(found, say),
        most=_most(found, say),
        shift=shift_view(report.last.shift, say) if report.last and report.last.shift else None,
    )


def _classes(found: Comparison) -> tuple[ClassRow, ...]:
    bounds = [0.02]
    for row in found.classes:
        bounds += [abs(row.recall.low), abs(row.recall.high)]
    reach = min(max(bounds), 1.0)
    rows = []
    for row in _shown(found):
        recall = row.recall
        change = None if recall.drop is None else -recall.drop
        strip = Markup("")
        if recall.drop is not None:
            strip = track(-reach, reach, value=change, low=-recall.high, high=-recall.low)
        rows.append(
            ClassRow(
                name=row.name,
                num_examples=fmt.fixed(row.num_examples),
                before=fmt.percent(recall.baseline),
                after=fmt.percent(recall.pruned),
                change=fmt.points(change, 1),
                range=f"[{fmt.points(-recall.high, 1)}, {fmt.points(-recall.low, 1)}]",
                precision_before=fmt.percent(row.precision_baseline),
                precision_after=fmt.percent(row.precision_pruned),
                adjusted=fmt.fixed(row.p_adjusted, 3),
                strip=strip,
            )
        )
    return tuple(rows)


def _shown(found: Comparison) -> list[ClassChange]:
    """Return the classes that are shown: all, or the least favorable ones, in their order."""
    worst = sorted(found.classes, key=lambda row: row.recall.high, reverse=True)[:MOST_CLASSES]
    return [row for row in found.classes if row in worst]


def _most(found: Comparison | None, say: Say) -> Text | None:
    if found is None or len(found.classes) <= MOST_CLASSES:
        return None
    return say(
        "compare.classes_most", num=fmt.fixed(len(found.classes)), shown=fmt.fixed(MOST_CLASSES)
    )


def _errors(risk: DefectRisk, say: Say) -> tuple[ErrorRow, ...]:
    def rate(found: Rate) -> Text:
        return say(
            "error.rate",
            hits=fmt.fixed(found.hits),
            total=fmt.fixed(found.total),
            rate=fmt.percent(found.rate, 2),
            range=fmt.ends(fmt.percent(found.low, 2), fmt.percent(found.high, 2)),
        )

    return tuple(
        ErrorRow(
            name=say(f"error.{key}", defect=risk.defect_class),
            before=rate(before),
            after=rate(after),
            change=say("figure.points", points=fmt.points(rise.drop)),
            range=fmt.ends(fmt.points(rise.low), fmt.points(rise.high)),
        )
        for key, before, after, rise in (
            ("missed", risk.missed_baseline, risk.missed_pruned, risk.missed_increase),
            ("rejected", risk.rejected_baseline, risk.rejected_pruned, risk.rejected_increase),
        )
    )


def _times(found: Comparison | None, onnx: tuple[LatencyPair, ...]) -> tuple[TimeRow, ...]:
    return tuple(_time(pair) for pair in (*(found.latency if found else ()), *onnx))


def _time(pair: LatencyPair) -> TimeRow:
    top = max(pair.baseline.high_ms, pair.pruned.high_ms)
    strips = [
        track(0, top, value=side.median_ms, low=side.low_ms, high=side.high_ms)
        for side in (pair.baseline, pair.pruned)
    ]
    return TimeRow(
        batch=str(pair.baseline.batch_size),
        device=f"{pair.baseline.device}, {pair.baseline.runtime}",
        before=fmt.milliseconds(pair.baseline.median_ms),
        after=fmt.milliseconds(pair.pruned.median_ms),
        ratio=fmt.percent(pair.ratio),
        range=fmt.ends(fmt.percent(pair.ratio_low), fmt.percent(pair.ratio_high)),
        before_strip=strips[0],
        after_strip=strips[1],
    )


def _score(stage: StageInput, key: str) -> float | None:
    """Return one score of a stage; that after fine-tuning may stand in its log alone."""
    value: float | None = getattr(stage.scores, key)
    if key == "tuned" and value is None and stage.tune is not None:
        return stage.tune.score_after
    return value


def _recovery_rows(stages: tuple[StageInput, ...], say: Say) -> tuple[tuple[Text, str], ...]:
    rows: list[tuple[Text, str]] = []
    for stage in stages:
        if stage.scores is None:
            continue
        for key in ("before", "cut", "recalibrated", "tuned"):
            value = _score(stage, key)
            if value is not None and (key != "before" or not rows):
                label = say(f"recovery.{key}", stage=str(stage.number))
                rows.append((label, fmt.percent(value, 2)))
    return tuple(rows)


def _recovery(stages: tuple[StageInput, ...], say: Say) -> Markup:
    values: list[float] = []
    for stage in stages:
        if stage.scores is None:
            continue
        found = [_score(stage, key) for key in ("cut", "recalibrated", "tuned")]
        if not values and stage.scores.before is not None:
            values.append(stage.scores.before)
        values += [value for value in found if value is not None]
    if len(values) < 2:
        return Markup("")
    low, high = _limits(values)
    return line_chart(
        [
            Line(
                label=say("recovery.line"),
                x=tuple(range(len(values))),
                y=tuple(100 * value for value in values),
            )
        ],
        Axis(label=say("axis.step"), low=0, high=len(values) - 1, ticks=tuple(range(len(values)))),
        Axis(label=say("axis.accuracy"), low=low, high=high),
    )


def _limits(values: list[float]) -> tuple[float, float]:
    """Return limits in percent with some air, inside 0 to 100."""
    low, high = 100 * min(values), 100 * max(values)
    air = max((high - low) * 0.1, 1.0)
    return max(0.0, low - air), min(100.0, high + air)


def _training(tune: TuneLog, say: Say) -> Markup:
    known = [
        (point.epoch, point.validation_score)
        for point in tune.points
        if point.validation_score is not None
    ]
    if len(known) < 2:
        return Markup("")
    low, high = _limits([score for _, score in known])
    return line_chart(
        [
            Line(
                label=say("training.validation"),
                x=tuple(epoch for epoch, _ in known),
                y=tuple(100 * score for _, score in known),
                marks=len(known) <= 40,
            )
        ],
        Axis(label=say("axis.epoch"), low=known[0][0], high=known[-1][0]),
        Axis(label=say("axis.accuracy"), low=low, high=high, digits=0 if high - low > 5 else 1),
    )


def _training_note(tune: TuneLog, say: Say) -> Text:
    best = next((point for point in tune.points if point.step == tune.best_step), None)
    return say(
        "training.note",
        steps=fmt.fixed(tune.steps),
        best=fmt.fixed(best.epoch, 1) if best else fmt.NOTHING,
        stopped=say(f"stopped.{tune.stopped.replace(' ', '_')}"),
    )


def _agreement(found: Comparison, say: Say) -> Text:
    return say(
        "compare.agreement",
        rate=fmt.percent(found.agreement.rate, 2),
        lost=fmt.fixed(found.lost),
        gained=fmt.fixed(found.gained),
        num=fmt.fixed(found.num_examples),
        p=same(fmt.fixed(found.p_value, 3)) if found.p_value is not None else same(fmt.NOTHING),
    )


def _sample_note(found: Comparison | None, say: Say) -> Text | None:
    if found is None or found.defects is None:
        return None
    missed = found.defects.missed_pruned
    if missed.total == 0:
        return say("error.no_defects")
    return say(
        "error.sample",
        hits=fmt.fixed(missed.hits),
        total=fmt.fixed(missed.total),
        high=fmt.percent(missed.high, 2),
        confidence=fmt.percent(found.confidence, 0),
    )
