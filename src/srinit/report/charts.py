"""Figures as hand-written SVG: line charts, scatter maps and stretchable interval tracks.

Colors come from the style sheet (`.c0` ... `.c9`), so that figures follow light and dark. Lines
differ by dashes and marks as well as by color. Every text is escaped.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup, escape

from srinit.records import Interval, record
from srinit.report.formats import fixed
from srinit.report.text import LocalizedText

WIDTH, HEIGHT = 480, 270
FEWEST_TICKS = 3  # of a strip, where its range allows them
LEFT, RIGHT, TOP, BOTTOM = 48, 24, 34, 50


@record
class Axis:
    """One axis: its label, its range, and how many digits its ticks show at least."""

    label: LocalizedText
    low: float
    high: float
    digits: int = 0
    ticks: tuple[float, ...] = ()
    names: tuple[LocalizedText, ...] = ()  # of the ticks, in place of their numbers

    def marks(self) -> tuple[float, ...]:
        """Return where the ticks are."""
        return self.ticks or nice_ticks(self.low, self.high)

    def text(self, tick: float) -> Markup:
        """Return a tick's name, or its number with as many digits as all of them need to differ."""
        if self.names:
            return self.names[self.ticks.index(tick)].svg()
        needed = next((d for d in range(4) if all(_is_whole(t * 10**d) for t in self.marks())), 4)
        return escape(fixed(tick, max(self.digits, needed)))


def _is_whole(number: float) -> bool:
    return abs(number - round(number)) < 1e-6


@record
class Line:
    """One line; `solid[i]` says whether point i was measured (hollow and dashed otherwise)."""

    label: LocalizedText
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    color: int = 0
    solid: tuple[bool, ...] = ()
    marks: bool = True
    low: tuple[float | None, ...] = ()  # with `high` the band around it
    high: tuple[float | None, ...] = ()


@record
class Dots:
    """One group of points in a map."""

    label: LocalizedText
    points: tuple[tuple[float, float], ...]
    color: int


def nice_ticks(low: float, high: float, count: int = 5) -> tuple[float, ...]:
    """Return about `count` round numbers from `low` to `high`.

    Example:
        >>> nice_ticks(0, 97)
        (0, 20, 40, 60, 80)
    """
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return (low,)
    raw = 0.9 * span / count
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return tuple(round(index * step, 10) for index in range(first, last + 1))


def line_chart(
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    *,
    limit: float | None = None,
    marker: float | None = None,
) -> Markup:
    """Return a line chart with a legend.

    Args:
        lines: At most ten.
        x: Horizontal axis.
        y: Vertical axis.
        limit: A horizontal line at this value.
        marker: A vertical line here, which the page can move.
    """
    frame = _Frame(x, y)
    parts = [frame.axes()]
    if limit is not None and y.low <= limit <= y.high:
        at = frame.y(limit)
        parts.append(f'<path class=limit d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
    if marker is not None:
        parts.append(frame.marker(marker))
    for line in lines:
        parts.append(_line(frame, line))
    legend = _legend([(line.label, line.color) for line in lines]) if len(lines) > 1 else ""
    drawing = "".join(parts)
    return Markup(
        f'<svg class=plot viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden=true>{drawing}</svg>{legend}'
    )


def front_chart(
    groups: Sequence[Dots],
    points: Sequence[tuple[float, float]],
    front: Sequence[tuple[float, float]],
    x: Axis,
    y: Axis,
) -> Markup:
    """Return numbered points in groups, with a line through those that none beats in both.

    Args:
        groups: Points of one color each.
        points: All of them, in the order of their numbers.
        front: Those that none beats, from left to right.
        x: Horizontal axis, less is better.
        y: Vertical axis, more is better.
    """
    frame = _Frame(x, y)
    parts = [frame.axes()]
    places = [(frame.x(px), frame.y(py)) for px, py in front]
    if len(places) > 1:
        path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
        path += "".join(f"H{px:.1f}V{py:.1f}" for px, py in places[1:])
        parts.append(f'<path class="line dashed c9" d="{path}"/>')
    for group in groups:
        path = "".join(f"M{frame.x(px):.1f} {frame.y(py):.1f}h0" for px, py in group.points)
        parts.append(f'<path class="dot c{group.color % 10}" d="{path}"/>')
    taken: list[tuple[float, float, float]] = []
    for number, (px, py) in enumerate(points, start=1):
        at, half = frame.x(px), 4.2 * len(str(number))
        height = _free(at, frame.y(py) - 8, half, taken, HEIGHT)
        taken.append((at, height, half))
        parts.append(f'<text class=name x="{at:.0f}" y="{height:.0f}">{number}</text>')
    legend = _legend([(group.label, group.color) for group in groups], "round")
    drawing = "".join(parts)
    return Markup(
        f'<svg class=plot viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden=true>{drawing}</svg>{legend}'
    )


def square(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Return left end, lower end and side of the square around points."""
    spans = [(min(values), max(values)) for values in zip(*points, strict=True)] or [(0.0, 1.0)] * 2
    side = max([high - low for low, high in spans] + [1e-9])
    left, lower = ((low + high - side) / 2 for low, high in spans)
    return left, lower, side


def scatter(groups: Sequence[Dots], frame: tuple[float, float, float]) -> Markup:
    """Return a map of points in a square (see `square`), groups named at their middle."""
    size, pad = 300, 14
    left, lower, side = frame
    scale = (size - 2 * pad) / side

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return pad + (point[0] - left) * scale, size - pad - (point[1] - lower) * scale

    dots, names = [], []
    taken: list[tuple[float, float, float]] = []
    for group in groups:
        if not group.points:
            continue
        at = [place(point) for point in group.points]
        path = "".join(f"M{px:.0f} {py:.0f}h0" for px, py in at)
        dots.append(f'<path class="dot c{group.color % 10}" d="{path}"/>')
        half = 4.2 * max(len(group.label.ja), 1)
        mx = sorted(px for px, _ in at)[len(at) // 2]
        mx = min(max(mx, half + 2), size - half - 2)
        my = _free(mx, sorted(py for _, py in at)[len(at) // 2], half, taken, size)
        taken.append((mx, my, half))
        names.append(f'<text class=name x="{mx:.0f}" y="{my:.0f}">{group.label.svg()}</text>')
    box = f'<rect class=frame x=".5" y=".5" width="{size - 1}" height="{size - 1}"/>'
    legend = _legend([(group.label, group.color) for group in groups if group.label.ja], "round")
    drawing = "".join([box, *dots, *names])
    return Markup(f'<svg viewBox="0 0 {size} {size}" aria-hidden=true>{drawing}</svg>{legend}')


def _free(
    x: float, y: float, half: float, taken: Sequence[tuple[float, float, float]], size: float
) -> float:
    """Return the height nearest to `y` at which a name of half this width hides no other."""
    line = 14.0
    others = [py for px, py, other in taken if abs(px - x) < half + other]
    steps = sorted(range(-20, 21), key=abs)
    free = (
        y + step * line / 2
        for step in steps
        if line <= y + step * line / 2 <= size - 4
        and all(abs(y + step * line / 2 - py) >= line for py in others)
    )
    return next(free, y)


def track(
    low_end: float,
    high_end: float,
    *,
    value: float | None,
    within: Interval | None = None,
    dots: Sequence[float] = (),
    limit: float | None = None,
    plain: bool = False,
) -> Markup:
    """Return a stretchable strip: a bar from zero to `value`, whisker, single observations.

    `plain` leaves out the line at zero and the ends of the whisker, where there are many strips.
    """

    def at(number: float) -> str:
        clipped = min(max(number, low_end), high_end)
        return f"{1000 * (clipped - low_end) / (high_end - low_end):.0f}"

    parts = []
    if low_end < 0 < high_end and not plain:
        parts.append(f'<path class=zero d="M{at(0)} 0V20"/>')
    if value is not None:
        left, right = sorted((float(at(0)), float(at(value))))
        parts.append(f'<path class=bar d="M{left:g} 5H{right:g}V15H{left:g}"/>')
    if within is not None:
        low, high = at(within.low), at(within.high)
        path = f"M{low} 10H{high}"
        if not plain:
            path += f"M{low} 6V14M{high} 6V14"
        if value is not None:
            path += f"M{at(value)} 3V17"
        parts.append(f'<path class=ends d="{path}"/>')
    parts += _observations([at(dot) for dot in dots])
    if limit is not None:
        parts.append(f'<path class=limit d="M{at(limit)} 0V20"/>')
    return Markup(
        '<svg class=track viewBox="0 0 1000 20" preserveAspectRatio=none aria-hidden=true>'
        f"{''.join(parts)}</svg>"
    )


def _observations(places: Sequence[str]) -> list[str]:
    """Return dots in three sizes: one observation, a few at the same place, a large part of all."""
    found: dict[str, list[str]] = {}
    for place, count in Counter(places).items():
        size = "obs" if count == 1 else "few" if count < len(places) / 5 else "many"
        found.setdefault(size, []).append(f"M{place} 10h0")
    return [f'<path class="obs {size}" d="{"".join(path)}"/>' for size, path in found.items()]


def scale(low: float, high: float, *, factor: float = 1.0, count: int = 5) -> Markup:
    """Return the numbers along a strip from `low` to `high`, times `factor`.

    Places are percentages, so that the text is not stretched with the strip.
    """
    ticks = nice_ticks(factor * low, factor * high, count)
    while len(ticks) < FEWEST_TICKS and count < 20:
        count += 1
        ticks = nice_ticks(factor * low, factor * high, count)
    digits = next((d for d in range(3) if all(_is_whole(t * 10**d) for t in ticks)), 3)
    marks = "".join(
        f'<text x="{100 * (tick / factor - low) / ((high - low) or 1):.1f}%" y=12>'
        f"{fixed(tick, digits)}</text>"
        for tick in ticks
    )
    return Markup(f"<svg class=scale aria-hidden=true>{marks}</svg>")


class _Frame:
    """Where numbers lie in the drawing."""

    def __init__(self, x: Axis, y: Axis) -> None:
        self.x_axis, self.y_axis = x, y

    def x(self, value: float) -> float:
        """Return the horizontal place of a value."""
        axis = self.x_axis
        share = (value - axis.low) / ((axis.high - axis.low) or 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return the vertical place of a value."""
        axis = self.y_axis
        share = (value - axis.low) / ((axis.high - axis.low) or 1)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def marker(self, value: float) -> str:
        """Return a vertical line at a value, with the length of one step for the page."""
        zero, step = self.x(0), self.x(1) - self.x(0)
        return (
            f'<path class=marker data-marker data-step="{step:.4f}" '
            f'transform="translate({value * step:.2f} 0)" d="M{zero:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        )

    def axes(self) -> str:
        """Return grid, ticks and labels."""
        parts = []
        for tick in self.y_axis.marks():
            at = self.y(tick)
            parts.append(f'<path class=grid d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
            label = self.y_axis.text(tick)
            parts.append(f'<text class=ytick x="{LEFT - 6}" y="{at + 4:.1f}">{label}</text>')
        marks = self.x_axis.marks()
        for tick in marks:
            label, at = self.x_axis.text(tick), self.x(tick)
            last = bool(self.x_axis.names) and tick == marks[-1] == self.x_axis.high
            kind = '"xtick last"' if last else "xtick"
            parts.append(
                f'<text class={kind} x="{WIDTH - 2 if last else at:.1f}" '
                f'y="{HEIGHT - BOTTOM + 19}">{label}</text>'
            )
        parts.append(f'<path class=axis d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f"<text class=ylabel x=0 y=15>{self.y_axis.label.svg()}</text>")
        label = self.x_axis.label.svg()
        parts.append(f'<text class=xlabel x="{middle:.0f}" y="{HEIGHT - 6}">{label}</text>')
        return "".join(parts)


def _line(frame: _Frame, line: Line) -> str:
    """Return one line: solid between measured points, dashed where an end is not."""
    solid = line.solid or (True,) * len(line.x)
    known = [
        (frame.x(x), frame.y(y), sure)
        for x, y, sure in zip(line.x, line.y, solid, strict=True)
        if y is not None
    ]
    full, dashed = _pieces(known, sure=True), _pieces(known, sure=False)
    color = f"c{line.color % 10}"
    parts = [_band(frame, line, color)] if line.low else []
    parts += [f'<path class="line {color}" d="{full}"/>'] if full else []
    if dashed:
        parts.append(f'<path class="line dashed {color}" d="{dashed}"/>')
    if line.marks:
        for sure, kind in ((True, "dot"), (False, "dot open")):
            path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y, found in known if found == sure)
            if path:
                parts.append(f'<path class="{kind} {color}" d="{path}"/>')
    return "".join(parts)


def _band(frame: _Frame, line: Line, color: str) -> str:
    """Return the area between the ends of the intervals."""
    ends = [
        (frame.x(x), frame.y(low), frame.y(high))
        for x, low, high in zip(line.x, line.low, line.high, strict=True)
        if low is not None and high is not None
    ]
    upper = "L".join(f"{x:.1f} {high:.1f}" for x, _, high in ends)
    lower = "L".join(f"{x:.1f} {low:.1f}" for x, low, _ in reversed(ends))
    return f'<path class="band {color}" d="M{upper}L{lower}Z"/>'


def _pieces(known: Sequence[tuple[float, float, bool]], *, sure: bool) -> str:
    """Return the path of all segments whose two ends were measured, or of all others."""
    path, end = "", None
    for (x0, y0, sure0), (x1, y1, sure1) in pairwise(known):
        if (sure0 and sure1) == sure:
            path += ("" if end == (x0, y0) else f"M{x0:.1f} {y0:.1f}") + f"L{x1:.1f} {y1:.1f}"
            end = (x1, y1)
    return path


def _legend(entries: Sequence[tuple[LocalizedText, int]], kind: str = "line") -> Markup:
    items = "".join(
        f'<li><i class="key {kind} c{color % 10}"></i>{label.__html__()}</li>'
        for label, color in entries
    )
    return Markup(f"<ul class=legend>{items}</ul>")
