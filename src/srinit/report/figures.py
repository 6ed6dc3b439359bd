"""The headline figures: before and after, with ranges."""

from __future__ import annotations

from typing import Literal

from srinit.comparison.records import (
    Comparison,
    Difference,
    ErrorCost,
    PerplexityChange,
    Rate,
    Rise,
)
from srinit.latency import LatencyPair
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.data import ReportInput
from srinit.report.roi import facts_of
from srinit.report.text import LocalizedText, Translator, join, untranslated

PIECES = 100_000
UNSTEADY = 2.0  # 90th over 10th percentile of single calls


@record
class Bar:
    """One bar: its length and its whisker, shares of the longest."""

    value: float
    low: float | None = None
    high: float | None = None


@record
class Figure:
    """One figure of the first page."""

    key: str
    title: LocalizedText
    before: LocalizedText
    after: LocalizedText
    change: LocalizedText
    range: LocalizedText | None  # of the change
    note: LocalizedText | None
    tone: Literal["better", "worse", "unclear", "plain"]
    before_bar: Bar | None = None
    after_bar: Bar | None = None


def headline(report: ReportInput, say: Translator) -> tuple[Figure, ...]:
    """Return the figures there are: speed, size, compute, accuracy, missed, rejected."""
    found = report.comparison
    figures: list[Figure] = []
    if found is not None and found.latency:
        first, *others = sorted(found.latency, key=lambda pair: pair.baseline.batch_size)
        figures.append(_speed(first, others, say))
    figures += _size(report, say)
    if found is not None:
        figures.append(_accuracy(found, say))
        if found.perplexity is not None:
            figures.append(_perplexity(found.perplexity, say))
        if found.defects is not None:
            figures += _defects(report, found, say)
        if found.error_cost is not None:
            figures.append(_error_cost(found.error_cost, report.roi.currency, say))
    # A speed-up that was not shown must not lead; the sort keeps the order of all others.
    return tuple(sorted(figures, key=lambda f: f.key == "speed" and f.tone == "unclear"))


def _perplexity(change: PerplexityChange, say: Translator) -> Figure:
    low, high = change.ratio.low, change.ratio.high
    sides = (change.baseline, change.pruned)
    bars = [Bar(value=side / max(sides)) for side in sides]
    before, after = (untranslated(fmt.significant(side, 4)) for side in sides)
    return Figure(
        key="perplexity",
        title=say("figure.perplexity"),
        before=before,
        after=after,
        change=say("figure.times", ratio=fmt.fixed(change.ratio.value, 2)),
        range=say("figure.times", ratio=fmt.ends(fmt.fixed(low, 2), fmt.fixed(high, 2))),
        note=None,
        tone="worse" if low > 1 else "better" if high < 1 else "unclear",
        before_bar=bars[0],
        after_bar=bars[1],
    )


def speed_tone(pair: LatencyPair) -> Literal["better", "worse", "unclear"]:
    """Return what the interval of the ratio of times shows; with 1 in it, nothing is shown."""
    if pair.ratio.high < 1:
        return "better"
    return "worse" if pair.ratio.low > 1 else "unclear"


def unsteady(pair: LatencyPair) -> bool:
    """Return whether calls of a network took so unlike times that the machine was not quiet."""
    return any(side.high_ms > UNSTEADY * side.low_ms for side in (pair.baseline, pair.pruned))


def speed_text(pair: LatencyPair, say: Translator) -> LocalizedText:
    """Return a change of speed in words; a ratio only where one was shown."""
    tone = speed_tone(pair)
    if tone == "unclear":
        return say("speed.unclear")
    return say(f"speed.{tone}", ratio=fmt.fixed(_speed_up(pair.ratio.known, tone), 2))


def speed_range(pair: LatencyPair, say: Translator) -> LocalizedText:
    """Return the interval that belongs to `speed_text`."""
    tone = speed_tone(pair)
    low, high = sorted(_speed_up(end, tone) for end in (pair.ratio.low, pair.ratio.high))
    return say("speed.range", range=fmt.ends(fmt.fixed(low, 2), fmt.fixed(high, 2)))


def _speed_up(ratio: float, tone: str) -> float:
    """Return pruned over baseline as how many times as long where it is slower, else as fast."""
    return ratio if tone == "worse" else 1 / ratio


def _speed(pair: LatencyPair, others: list[LatencyPair], say: Translator) -> Figure:
    before, after = pair.baseline.median_ms, pair.pruned.median_ms
    top = max(before, after)
    notes = [
        say(
            "speed.at",
            batch=str(other.baseline.batch_size),
            text=speed_text(other, say),
            range=speed_range(other, say),
        )
        for other in others
    ]
    if unsteady(pair):
        notes.insert(0, say("speed.unsteady"))
    return Figure(
        key="speed",
        title=say("figure.speed", batch=str(pair.baseline.batch_size)),
        before=untranslated(fmt.milliseconds(before)),
        after=untranslated(fmt.milliseconds(after)),
        change=speed_text(pair, say),
        range=speed_range(pair, say),
        note=join(notes, ja="、", en="; ") if notes else None,
        tone=speed_tone(pair),
        before_bar=Bar(value=before / top),
        after_bar=Bar(value=after / top),
    )


def _size(report: ReportInput, say: Translator) -> list[Figure]:
    found = report.comparison
    chosen = report.plan.prefixes[len(report.plan.remove)]
    first = report.plan.prefixes[0]
    cost = found.cost if found is not None else None
    params = (cost.params_baseline, cost.params_pruned) if cost else (first.params, chosen.params)
    flops = (cost.flops_baseline, cost.flops_pruned) if cost else (first.flops, chosen.flops)
    return [
        _count(
            "params", params, untranslated(f"{params[0]:,}"), untranslated(f"{params[1]:,}"), say
        ),
        _count(
            "flops",
            flops,
            untranslated(fmt.scaled(flops[0], "FLOPs")),
            untranslated(fmt.scaled(flops[1], "FLOPs")),
            say,
        ),
    ]


def _count(
    key: str, pair: tuple[int, int], before: LocalizedText, after: LocalizedText, say: Translator
) -> Figure:
    ratio = pair[1] / pair[0] if pair[0] else 1.0
    return Figure(
        key=key,
        title=say(f"figure.{key}"),
        before=before,
        after=after,
        change=untranslated(fmt.percent(ratio - 1, 1, signed=True)),
        range=None,
        note=None,
        tone="better" if ratio < 1 else "plain",
        before_bar=Bar(value=1.0),
        after_bar=Bar(value=ratio),
    )


def _accuracy(found: Comparison, say: Translator) -> Figure:
    score = found.score
    return Figure(
        key="accuracy",
        title=say("figure.accuracy" if found.p_value is not None else "figure.score"),
        before=untranslated(fmt.percent(score.baseline, 2)),
        after=untranslated(fmt.percent(score.pruned, 2)),
        change=say("figure.points", points=fmt.points(None if score.drop is None else -score.drop)),
        range=fmt.ends(fmt.points(-score.high), fmt.points(-score.low)),
        note=say("figure.on", num=fmt.fixed(score.num_examples)),
        tone=_tone(score),
        before_bar=Bar(value=score.baseline or 0.0),
        after_bar=Bar(value=score.pruned or 0.0),
    )


def _tone(loss: Difference) -> Literal["better", "worse", "unclear"]:
    if loss.low > 0:
        return "worse"
    return "better" if loss.high < 0 else "unclear"


def _defects(report: ReportInput, found: Comparison, say: Translator) -> list[Figure]:
    assert found.defects is not None
    share = report.roi.defect_share
    measured = share is None
    if share is None:
        share = facts_of(found).defect_share or 0.0
    risk = found.defects
    note = say(
        "figure.share_measured" if measured else "figure.share_given", share=fmt.percent(share, 2)
    )
    missed = _per_pieces(
        "missed", risk.missed_baseline, risk.missed_pruned, risk.missed_increase, share, note, say
    )
    rejected = _per_pieces(
        "rejected",
        risk.rejected_baseline,
        risk.rejected_pruned,
        risk.rejected_increase,
        1 - share,
        note,
        say,
    )
    return [missed, rejected]


def _error_cost(found: ErrorCost, currency: str, say: Translator) -> Figure:
    rise, per = found.increase, 1000.0

    def amount(value: float | None, *, signed: bool = False) -> LocalizedText:
        return fmt.unit_cost(None if value is None else per * value, currency, signed=signed)

    key = "figure.share_given" if found.share_given else "figure.share_measured"
    top = max(rise.baseline or 0.0, rise.pruned or 0.0, 1e-12)
    low, high = amount(rise.low, signed=True), amount(rise.high, signed=True)
    return Figure(
        key="error_cost",
        title=say("figure.error_cost"),
        before=amount(rise.baseline),
        after=amount(rise.pruned),
        change=amount(rise.rise, signed=True),
        range=LocalizedText(ja=f"{low.ja}〜{high.ja}", en=f"{low.en} to {high.en}"),
        note=say(key, share=fmt.percent(found.defect_share, 2)),
        tone=_tone(rise),
        before_bar=Bar(value=(rise.baseline or 0.0) / top),
        after_bar=Bar(value=(rise.pruned or 0.0) / top),
    )


def _per_pieces(
    key: str,
    before: Rate,
    after: Rate,
    rise: Rise,
    share: float,
    note: LocalizedText,
    say: Translator,
) -> Figure:
    scale = PIECES * share
    top = max(before.high, after.high, 1e-12)

    def counted(rate: Rate) -> LocalizedText:
        if rate.rate is None:
            return untranslated(fmt.NOTHING)
        return say(
            "figure.pieces",
            num=fmt.fixed(scale * rate.rate),
            low=fmt.fixed(scale * rate.low),
            high=fmt.fixed(scale * rate.high),
        )

    drop = None if rise.rise is None else scale * rise.rise
    return Figure(
        key=key,
        title=say(f"figure.{key}"),
        before=counted(before),
        after=counted(after),
        change=say("figure.more_pieces", num=fmt.fixed(drop, signed=True)),
        range=fmt.ends(
            fmt.fixed(scale * rise.low, signed=True), fmt.fixed(scale * rise.high, signed=True)
        ),
        note=note,
        tone=_tone(rise),
        before_bar=_rate_bar(before, top),
        after_bar=_rate_bar(after, top),
    )


def _rate_bar(rate: Rate, top: float) -> Bar:
    return Bar(value=(rate.rate or 0.0) / top, low=rate.low / top, high=rate.high / top)
