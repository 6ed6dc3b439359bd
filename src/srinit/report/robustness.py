"""The part of the comparison on shift and noise: a curve for each corruption, and a table."""

from __future__ import annotations

from markupsafe import Markup

from srinit.comparison.corruptions import CORRUPTIONS
from srinit.comparison.robustness import CorruptionPoint, CorruptionRobustness
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.charts import Axis, Line, line_chart
from srinit.report.text import LocalizedText, Translator, untranslated

MOST_CHARTS = 12


@record
class CorruptionChart:
    """Both networks under one corruption, by severity; 0 is the clean image."""

    name: LocalizedText
    drawing: Markup


@record
class CorruptionRow:
    """One corruption at one severity."""

    name: LocalizedText
    severity: str
    before: str
    after: str
    change: str
    range: str
    adjusted: str
    worse: bool


@record
class RobustnessView:
    """What the page shows of shift and noise."""

    lead: LocalizedText
    charts: tuple[CorruptionChart, ...]
    rows: tuple[CorruptionRow, ...]


def robustness_view(found: CorruptionRobustness, say: Translator) -> RobustnessView:
    """Return drawings and rows."""
    names = list(dict.fromkeys(point.corruption for point in found.points))
    worst = found.worst
    key = "shift.worse" if found.significant else "shift.same"
    return RobustnessView(
        lead=say(
            key,
            num=fmt.fixed(found.num_examples),
            count=fmt.fixed(len(found.significant)),
            all=fmt.fixed(len(found.points)),
            worst=_name(worst.corruption, say) if worst else untranslated("-"),
            severity=str(worst.severity) if worst else "-",
            change=fmt.points(-(worst.score.drop or 0.0), 1) if worst else "-",
        ),
        charts=tuple(
            CorruptionChart(name=_name(name, say), drawing=_chart(found, name, say))
            for name in names[:MOST_CHARTS]
        ),
        rows=tuple(_row(point, say) for point in found.points),
    )


def _name(name: str, say: Translator) -> LocalizedText:
    return say(f"shift.{name}") if name in CORRUPTIONS else untranslated(name)


def _chart(found: CorruptionRobustness, name: str, say: Translator) -> Markup:
    points = sorted((p for p in found.points if p.corruption == name), key=lambda p: p.severity)
    scores = [found.clean, *(point.score for point in points)]
    x = (0.0, *(float(point.severity) for point in points))
    lines = [
        Line(
            label=say(label),
            x=x,
            y=tuple(None if v is None else 100 * v for v in values),
            color=color,
        )
        for color, (label, values) in enumerate(
            (
                ("page.before", [score.baseline for score in scores]),
                ("page.after", [score.pruned for score in scores]),
            )
        )
    ]
    return line_chart(
        lines,
        Axis(label=say("shift.severity"), low=0.0, high=5.0, ticks=(0, 1, 2, 3, 4, 5)),
        Axis(label=say("shift.score"), low=0.0, high=100.0),
    )


def _row(point: CorruptionPoint, say: Translator) -> CorruptionRow:
    score = point.score
    return CorruptionRow(
        name=_name(point.corruption, say),
        severity=str(point.severity),
        before=fmt.percent(score.baseline),
        after=fmt.percent(score.pruned),
        change=fmt.points(None if score.drop is None else -score.drop, 1),
        range=f"[{fmt.points(-score.high, 1)}, {fmt.points(-score.low, 1)}]",
        adjusted=fmt.p_value(point.p_adjusted),
        worse=point.p_adjusted <= 0.05 and (score.drop or 0.0) > 0,
    )
