"""Latency as it was measured: every timed call of both networks, at every batch size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from srinit.latency import Latency, LatencyPair
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.charts import scale
from srinit.report.data import ReportInput
from srinit.report.figures import speed_range, speed_text, speed_tone
from srinit.report.prose import device_words
from srinit.report.text import LocalizedText, Translator

ROWS = (15, 9, 21, 6, 24, 12, 18)  # heights of dots, so that equal times do not hide each other
FAR = 1.6  # times the 90th percentile from which a single call would squeeze the others
FARTHEST = 4.0  # times the median, however wide the percentiles are


@record
class Side:
    """The timed calls of one network."""

    median: str
    spread: LocalizedText  # 10th to 90th percentile
    calls: str
    beyond: LocalizedText | None  # calls off the scale
    strip: Markup


@record
class TimeRow:
    """Latency at one batch size."""

    batch: str
    device: LocalizedText
    tone: str
    change: LocalizedText
    range: LocalizedText
    sides: tuple[Side, Side]  # baseline, pruned
    scale: Markup
    has_samples: bool


def times_view(report: ReportInput, say: Translator) -> tuple[TimeRow, ...]:
    """Return one row a batch size and runtime."""
    found = report.comparison.latency if report.comparison else ()
    return tuple(_row(pair, say) for pair in (*found, *report.onnx_latency))


def _row(pair: LatencyPair, say: Translator) -> TimeRow:
    sides = (pair.baseline, pair.pruned)
    far = min(
        FAR * max(side.high_ms for side in sides), FARTHEST * max(side.median_ms for side in sides)
    )
    top = 1.05 * min(far, max(max((*side.samples_ms, side.high_ms)) for side in sides))
    return TimeRow(
        batch=str(pair.baseline.batch_size),
        device=device_words(pair.baseline.device, pair.baseline.runtime),
        tone=speed_tone(pair),
        change=speed_text(pair, say),
        range=speed_range(pair, say),
        sides=(_side(pair.baseline, top, say), _side(pair.pruned, top, say)),
        scale=scale(0.0, top, count=4),
        has_samples=all(side.samples_ms for side in sides),
    )


def _side(side: Latency, top: float, say: Translator) -> Side:
    beyond = sum(value > top for value in side.samples_ms)
    return Side(
        median=fmt.milliseconds(side.median_ms),
        spread=fmt.ends(fmt.significant(side.low_ms), fmt.significant(side.high_ms)),
        calls=fmt.fixed(side.repeats),
        beyond=say("times.beyond", num=str(beyond)) if beyond else None,
        strip=_strip(side, top),
    )


def _strip(side: Latency, top: float) -> Markup:
    """Return a box of the middle half, the median, the 10th to 90th percentile, every call."""

    def at(value: float) -> str:
        return f"{1000 * min(value / top, 1):.0f}"

    ends = f"M{at(side.low_ms)} 15H{at(side.high_ms)}"
    parts = [f'<path class=ends d="{ends}M{at(side.low_ms)} 10V20M{at(side.high_ms)} 10V20"/>']
    if side.samples_ms:
        low, high = np.quantile(side.samples_ms, [0.25, 0.75])
        parts.append(f'<path class=bar d="M{at(low)} 5H{at(high)}V25H{at(low)}Z"/>')
        parts.append(_dots([at(value) for value in side.samples_ms if value <= top]))
    parts.append(f'<path class=mid d="M{at(side.median_ms)} 2V28"/>')
    return Markup(
        '<svg class="track calls" viewBox="0 0 1000 30" preserveAspectRatio=none aria-hidden=true>'
        f"{''.join(parts)}</svg>"
    )


def _dots(places: Sequence[str]) -> str:
    path = "".join(f"M{x} {ROWS[i % len(ROWS)]}h0" for i, x in enumerate(places))
    return f'<path class=obs d="{path}"/>'
