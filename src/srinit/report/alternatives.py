"""Is pruning the right tool? The alternatives as the page shows them: picture and table."""

from __future__ import annotations

import math

from markupsafe import Markup

from srinit.alternatives import Alternative, Alternatives
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.charts import Axis, Dots, front_chart
from srinit.report.data import ReportInput
from srinit.report.prose import RUNTIMES
from srinit.report.text import LocalizedText, Translator, untranslated

FAR = 0.10  # a score so far below the reference's is drawn at the lower edge
KINDS = ("unpruned", "pruned", "resolution", "sibling")
STEPS = (1, 2, 5)  # of the ticks of a decade


@record
class AlternativeRow:
    """One alternative."""

    number: str
    name: LocalizedText
    runtime: str
    score: str
    change: str  # in points
    range: LocalizedText
    times: tuple[str, ...]
    size: str
    kept: LocalizedText
    on_front: bool


@record
class AlternativesView:
    """The picture, the table and the sentences."""

    batches: tuple[str, ...]
    drawing: Markup
    rows: tuple[AlternativeRow, ...]
    lead: LocalizedText
    lines: tuple[LocalizedText, ...]
    not_tried: tuple[tuple[str, str], ...]


def alternatives_view(report: ReportInput, say: Translator) -> AlternativesView | None:
    """Return what the page shows of alternatives; None where none were measured."""
    found = report.alternatives
    if found is None:
        return None
    sizes = [str(p.baseline.batch_size) for p in found.tried[0].latency] if found.tried else []
    lines = [
        say(
            "alternatives.how",
            num=fmt.fixed(found.num_examples),
            limits=", ".join(found.limits),
            seconds=fmt.fixed(found.seconds),
        )
    ]
    if found.not_asked:
        lines.append(say("alternatives.not_asked", names=", ".join(found.not_asked)))
    return AlternativesView(
        batches=tuple(sizes),
        drawing=_drawing(found, say) if found.tried else Markup(""),
        rows=tuple(_row(place, each, found, say) for place, each in enumerate(found.tried)),
        lead=_lead(found, say),
        lines=tuple(lines),
        not_tried=tuple(found.not_tried.items()),
    )


def _name(each: Alternative, say: Translator) -> LocalizedText:
    return say(f"alternatives.{each.kind}", detail=each.detail, numbers=each.numbers)


def _runtime(each: Alternative) -> str:
    return RUNTIMES.get(each.runtime, each.runtime)


def _row(place: int, each: Alternative, found: Alternatives, say: Translator) -> AlternativeRow:
    loss = each.loss
    return AlternativeRow(
        number=str(place + 1),
        name=_name(each, say),
        runtime=_runtime(each),
        score=fmt.rate(loss.pruned),
        change=fmt.points(None if loss.value is None else -loss.value) if place else "",
        range=fmt.ends(fmt.points(-loss.high), fmt.points(-loss.low))
        if place
        else untranslated(""),
        times=tuple(fmt.milliseconds(pair.pruned.median_ms) for pair in each.latency),
        size=fmt.scaled(each.size_bytes, "B"),
        kept=say("alternatives.kept" if each.passed else "alternatives.not_kept"),
        on_front=place in found.front,
    )


def _lead(found: Alternatives, say: Translator) -> LocalizedText:
    """Return the sentence that names what to take."""
    if found.pick is None:
        return say("alternatives.nothing")
    taken = found.tried[found.pick.place]
    words = {
        "name": _name(taken, say),
        "runtime": _runtime(taken),
        "ms": fmt.milliseconds(taken.milliseconds),
        "batch": str(taken.latency[0].baseline.batch_size),
    }
    if found.pick.other is None or found.pick.ratio is None:
        key = "alone" if taken.is_pruned else "alone_unpruned"
        return say(f"alternatives.{key}", **words)
    other, ratio = found.tried[found.pick.other], found.pick.ratio
    key = "take" if taken.is_pruned else "take_unpruned"
    if ratio.high >= 1:
        key += "_unsure"
    return say(
        f"alternatives.{key}",
        **words,
        other=_name(other, say),
        other_runtime=_runtime(other),
        ratio=fmt.percent(ratio.value, 0),
        range=fmt.ends(fmt.percent(ratio.low, 0), fmt.percent(ratio.high, 0)),
    )


def _drawing(found: Alternatives, say: Translator) -> Markup:
    """Return score against time: a dot an alternative, numbered as in the table, and the front."""
    scores = [each.loss.pruned or 0.0 for each in found.tried]
    floor = min(score for score in scores if score >= scores[0] - FAR)
    times = [math.log10(each.milliseconds) for each in found.tried]
    y = Axis(
        label=say("alternatives.score"),
        low=math.floor(100 * floor) - 1,
        high=min(100.0, math.ceil(100 * max(scores))),
    )
    ticks = _ticks(min(times), max(times))
    x = Axis(
        label=say("alternatives.ms", batch=str(found.tried[0].latency[0].baseline.batch_size)),
        low=min(*times, *ticks) - 0.05,
        high=max(*times, *ticks) + 0.05,
        ticks=ticks,
        names=tuple(untranslated(f"{10**tick:.3g}") for tick in ticks),
    )
    points = [(t, max(100 * s, y.low)) for t, s in zip(times, scores, strict=True)]
    groups = [
        Dots(
            label=say(f"alternatives.kind_{kind}"),
            points=tuple(p for p, each in zip(points, found.tried, strict=True)
                         if each.kind == kind),
            color=color,
        )
        for color, kind in enumerate(KINDS)
        if any(each.kind == kind for each in found.tried)
    ]  # fmt: skip
    return front_chart(groups, points, [points[place] for place in found.front], x, y)


def _ticks(low: float, high: float) -> tuple[float, ...]:
    """Return round times in a range of logarithms, at most seven."""
    found = [
        math.log10(step * 10.0**decade)
        for decade in range(math.floor(low), math.ceil(high) + 1)
        for step in STEPS
    ]
    inside = [tick for tick in found if low - 0.3 <= tick <= high + 0.3]
    return tuple(inside[:: -(-len(inside) // 7)])
