"""The comparison section: classes, error kinds, training curves, gates."""

from __future__ import annotations

import math

from markupsafe import Markup

from srinit.comparison import PrecisionChange
from srinit.comparison.records import (
    AurocChange,
    ClassChange,
    Comparison,
    Count,
    DefectRisk,
    ErrorCost,
    Rate,
    Share,
)
from srinit.evaluate import MORE_IS_BETTER
from srinit.finetune.choice import RecipeChoice
from srinit.finetune.records import TuneLog
from srinit.records import Interval, record
from srinit.report import formats as fmt
from srinit.report.charts import Axis, Line, line_chart, scale, track
from srinit.report.confusion_pairs import ConfusionRow, confusion_rows
from srinit.report.data import ReportInput
from srinit.report.field_data import FieldView, field_view
from srinit.report.robustness import RobustnessView, robustness_view
from srinit.report.text import LocalizedText, Translator, untranslated

MOST_CLASSES = 30  # rows of the table of classes


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

    name: LocalizedText
    before: LocalizedText
    after: LocalizedText
    change: LocalizedText
    range: LocalizedText


@record
class Differences:
    """What the section shows; empty parts are left out of the page."""

    gates_note: LocalizedText | None = None  # where a loss is below zero
    classes: tuple[ClassRow, ...] = ()
    errors: tuple[ErrorRow, ...] = ()
    training: Markup = Markup("")
    losses: Markup = Markup("")
    training_note: LocalizedText | None = None
    recipe_note: LocalizedText | None = None
    agreement: LocalizedText | None = None
    counts_note: LocalizedText | None = None  # where objects or pixels are counted
    perplexity: LocalizedText | None = None
    sample_note: LocalizedText | None = None
    cost_notes: tuple[LocalizedText, ...] = ()
    most: LocalizedText | None = None  # where not every class is shown
    shift: RobustnessView | None = None
    scale: Markup = Markup("")  # of the strips of classes
    confusion_pairs: tuple[ConfusionRow, ...] = ()
    site: FieldView | None = None


def differences_view(report: ReportInput, say: Translator) -> Differences:
    """Return the rows and drawings of the comparison section."""
    found = report.comparison
    tune = report.last.tune if report.last else None
    gates = report.gates.gates if report.gates else ()
    return Differences(
        gates_note=say("gate.below_zero")
        if any((gate.measured or 0) < 0 for gate in gates)
        else None,
        classes=_classes(found) if found else (),
        errors=_errors(found, report, say) if found and found.defects else (),
        counts_note=say("error.counts.note") if found and found.counts else None,
        training=_training(tune, say) if tune else Markup(""),
        losses=_losses(tune, say) if tune else Markup(""),
        training_note=_training_note(tune, say) if tune else None,
        recipe_note=_recipe_note(report.last.training, say) if report.last else None,
        agreement=_agreement(found, say) if found else None,
        perplexity=_perplexity(found, say) if found else None,
        sample_note=_sample_note(found, say),
        cost_notes=_cost_notes(found.error_cost, say) if found and found.error_cost else (),
        most=_most(found, say),
        confusion_pairs=confusion_rows(
            report.last.confusion_pairs if report.last else (), report.class_names
        ),
        scale=scale(-(reach := _reach(found)), reach, factor=100, count=4) if found else Markup(""),
        shift=robustness_view(report.last.shift, say)
        if report.last and report.last.shift
        else None,
        site=_site(report, say),
    )


def _site(report: ReportInput, say: Translator) -> FieldView | None:
    if report.last is None or report.last.site is None:
        return None
    return field_view(report.last.site, report.last.site_gates, say)


def _reach(found: Comparison) -> float:
    """Return where the strips of classes end, to both sides."""
    bounds = [0.02]
    for row in found.classes:
        bounds += [abs(row.recall.low), abs(row.recall.high)]
    return min(max(bounds), 1.0)


def _classes(found: Comparison) -> tuple[ClassRow, ...]:
    reach = _reach(found)
    rows = []
    for row in _shown(found):
        recall = row.recall
        change = None if recall.drop is None else -recall.drop
        strip = Markup("")
        if recall.drop is not None:
            strip = track(-reach, reach, value=change, within=-recall)
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
                adjusted=fmt.p_value(row.p_adjusted),
                strip=strip,
            )
        )
    return tuple(rows)


def _shown(found: Comparison) -> list[ClassChange]:
    """Return the classes that are shown: all, or the least favorable ones, in their order."""
    worst = sorted(found.classes, key=lambda row: row.recall.high, reverse=True)[:MOST_CLASSES]
    return [row for row in found.classes if row in worst]


def _most(found: Comparison | None, say: Translator) -> LocalizedText | None:
    if found is None or len(found.classes) <= MOST_CLASSES:
        return None
    return say(
        "compare.classes_most", num=fmt.fixed(len(found.classes)), shown=fmt.fixed(MOST_CLASSES)
    )


def _errors(found: Comparison, report: ReportInput, say: Translator) -> tuple[ErrorRow, ...]:
    assert found.defects is not None
    rows = (*_of_parts(found.defects, say), *(_counted(row, say) for row in found.counts))
    rows += _auroc(found.auroc, say) if found.auroc else ()
    rows += _precision(report.last.precision, say) if report.last and report.last.precision else ()
    currency = report.roi.currency
    if found.error_cost is None:
        return rows
    rise = found.error_cost.increase
    low, high = (fmt.unit_cost(end, currency, signed=True) for end in (rise.low, rise.high))
    cost = ErrorRow(
        name=say("error.cost"),
        before=fmt.unit_cost(rise.baseline, currency),
        after=fmt.unit_cost(rise.pruned, currency),
        change=fmt.unit_cost(rise.rise, currency, signed=True),
        range=LocalizedText(ja=f"{low.ja}〜{high.ja}", en=f"{low.en} to {high.en}"),
    )
    return (*rows, cost)


def _counted(count: Count, say: Translator) -> ErrorRow:
    """Return one kind of what is counted within images."""
    kind, _, of_class = count.name.partition(".")
    suffix, change = ("_of" if of_class else ""), count.change

    def share(found: Share) -> LocalizedText:
        ends = fmt.ends(fmt.percent(found.low, 2), fmt.percent(found.high, 2))
        rate = fmt.percent(found.value, 2)
        if kind in MORE_IS_BETTER:
            return say("error.counts.mean", rate=rate, range=ends)
        hits, total = fmt.fixed(found.part), fmt.fixed(found.whole)
        return say("error.rate", hits=hits, total=total, rate=rate, range=ends)

    return ErrorRow(
        name=say(f"error.counts.{kind}{suffix}", **({"name": of_class} if of_class else {})),
        before=share(count.baseline),
        after=share(count.pruned),
        change=say("figure.points", points=fmt.points(change.rise)),
        range=fmt.ends(fmt.points(change.low), fmt.points(change.high)),
    )


def _auroc(found: AurocChange, say: Translator) -> tuple[ErrorRow, ErrorRow]:
    def area(side: Interval) -> LocalizedText:
        ends = fmt.ends(fmt.percent(side.low, 2), fmt.percent(side.high, 2))
        return say("error.counts.mean", rate=fmt.percent(side.value, 2), range=ends)

    lost, missed = found.loss, found.missed
    return (
        ErrorRow(
            name=say("error.auroc"),
            before=area(found.baseline),
            after=area(found.pruned),
            change=say("figure.points", points=fmt.points(-lost.known)),
            range=fmt.ends(fmt.points(-lost.high), fmt.points(-lost.low)),
        ),
        ErrorRow(
            name=say("error.missed_at", share=fmt.percent(found.false_rejects, 0)),
            before=untranslated(fmt.percent(missed.baseline, 2)),
            after=untranslated(fmt.percent(missed.pruned, 2)),
            change=say("figure.points", points=fmt.points(missed.rise)),
            range=fmt.ends(fmt.points(missed.low), fmt.points(missed.high)),
        ),
    )


def _precision(found: PrecisionChange, say: Translator) -> tuple[ErrorRow, ...]:
    """Return the mean average precision of detectors, in all and by class."""
    one, other = found.baseline, found.pruned
    named = [
        (say("error.precision.mean", tool=found.tool), one.mean, other.mean),
        (say("error.precision.at_half"), one.at_half, other.at_half),
    ]
    if len(one.classes) > 1:
        named += [
            (say("error.precision.of", name=name), value, other.classes[name])
            for name, value in one.classes.items()
        ]
    return tuple(
        ErrorRow(
            name=name,
            before=untranslated(fmt.percent(before, 2)),
            after=untranslated(fmt.percent(after, 2)),
            change=say(
                "figure.points",
                points=fmt.points(None if before is None or after is None else after - before),
            ),
            range=untranslated(fmt.NOTHING),
        )
        for name, before, after in named
    )


def _cost_notes(found: ErrorCost, say: Translator) -> tuple[LocalizedText, ...]:
    """Return where the errors of both networks cost the same."""
    notes = []
    if found.break_even_miss_rate is not None:
        rate, share = map(fmt.rate, (found.break_even_miss_rate, found.defect_share))
        notes.append(say("error.even_rate", rate=rate, share=share))
    if found.break_even_ratio is not None:
        notes.append(say("error.even_ratio", ratio=fmt.significant(found.break_even_ratio)))
    return tuple(notes)


def _of_parts(risk: DefectRisk, say: Translator) -> tuple[ErrorRow, ...]:
    def rate(found: Rate) -> LocalizedText:
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
            change=say("figure.points", points=fmt.points(rise.rise)),
            range=fmt.ends(fmt.points(rise.low), fmt.points(rise.high)),
        )
        for key, before, after, rise in (
            ("missed", risk.missed_baseline, risk.missed_pruned, risk.missed_increase),
            ("rejected", risk.rejected_baseline, risk.rejected_pruned, risk.rejected_increase),
        )
    )


def _limits(values: list[float]) -> tuple[float, float]:
    """Return limits in percent with some air, inside 0 to 100."""
    low, high = 100 * min(values), 100 * max(values)
    air = max((high - low) * 0.1, 1.0)
    return max(0.0, low - air), min(100.0, high + air)


def _training(tune: TuneLog, say: Translator) -> Markup:
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
        Axis(label=say("axis.epoch"), low=known[0][0], high=known[-1][0], ticks=_epochs(known)),
        Axis(label=say("axis.accuracy"), low=low, high=high),
    )


def _losses(tune: TuneLog, say: Translator) -> Markup:
    known = [(point.epoch, point.loss) for point in tune.points if point.loss is not None]
    if len(known) < 2:
        return Markup("")
    low, high = min(loss for _, loss in known), max(loss for _, loss in known)
    air = max(0.1 * (high - low), 1e-3)
    return line_chart(
        [
            Line(
                label=say("training.loss"),
                x=tuple(epoch for epoch, _ in known),
                y=tuple(loss for _, loss in known),
                color=1,
                marks=len(known) <= 40,
            )
        ],
        Axis(label=say("axis.epoch"), low=known[0][0], high=known[-1][0], ticks=_epochs(known)),
        Axis(label=say("training.loss"), low=max(0.0, low - air), high=high + air),
    )


def _epochs(known: list[tuple[float, float]]) -> tuple[float, ...]:
    """Return whole passes as ticks; the chart's own where there are too many, or too few."""
    first, last = math.ceil(known[0][0]), math.floor(known[-1][0])
    return tuple(range(first, last + 1)) if 1 <= last - first <= 10 else ()


def _training_note(tune: TuneLog, say: Translator) -> LocalizedText:
    best = next((point for point in tune.points if point.step == tune.best_step), None)
    return say(
        "training.note",
        steps=fmt.fixed(tune.steps),
        best=fmt.fixed(best.epoch, 1).removesuffix(".0") if best else fmt.NOTHING,
        stopped=say(f"stopped.{tune.stopped.replace(' ', '_')}"),
    )


def _recipe_note(choice: RecipeChoice | None, say: Translator) -> LocalizedText | None:
    """Return which recipes were tried on copies before the training; None where none were."""
    if choice is None or not choice.trials:
        return None
    return say(
        "training.recipe_raised" if choice.is_raised else "training.recipe",
        optimizer={"sgd": "SGD", "adamw": "AdamW"}[choice.recipe.optimizer],
        rate=f"{choice.recipe.peak_lr:.3g}",
        count=fmt.fixed(len(choice.trials)),
        steps=fmt.fixed(choice.steps),
        num=fmt.fixed(choice.num_examples),
    )


def _agreement(found: Comparison, say: Translator) -> LocalizedText:
    if found.perplexity is not None:  # of texts no answer is right or wrong as a whole
        return say("compare.of_tokens", num=fmt.fixed(found.num_examples))
    return say(
        "compare.agreement" if found.p_value is not None else "compare.agreement_scores",
        rate=fmt.percent(found.agreement.rate, 2),
        lost=fmt.fixed(found.lost),
        gained=fmt.fixed(found.gained),
        num=fmt.fixed(found.num_examples),
        p=_equals(fmt.p_value(found.p_value)),
    )


def _perplexity(found: Comparison, say: Translator) -> LocalizedText | None:
    change = found.perplexity
    if change is None:
        return None
    return say(
        "compare.perplexity",
        before=fmt.significant(change.baseline, 4),
        after=fmt.significant(change.pruned, 4),
        ratio=fmt.fixed(change.ratio.value, 3),
        range=fmt.ends(fmt.fixed(change.ratio.low, 3), fmt.fixed(change.ratio.high, 3)),
        tokens=fmt.fixed(change.num_tokens),
        num=fmt.fixed(change.num_documents),
    )


def _equals(text: str) -> str:
    return text if text.startswith("<") else f"= {text}"


def _sample_note(found: Comparison | None, say: Translator) -> LocalizedText | None:
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
