"""The scan and the plan drawn for a terminal: as much of them as its width holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.text import Text

from srinit.cli.render import BAR_WIDTH, compact_table, escape, percent, points

if TYPE_CHECKING:
    from srinit.plan import PrunePlan
    from srinit.records import Interval
    from srinit.sensitivity import Sensitivity

DECISION_STYLE = {"redundant": "green", "needed": "red", "undecided": "yellow"}
WIDE = 112  # columns from which a plan shows intervals
SMALLEST_BAR = 8
NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
NAMED = 4  # units up to which a remark names them


class Fitted:
    """Something that is made for the width it gets."""

    def __init__(self, make: Callable[[int], RenderableType]) -> None:
        self._make = make

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        yield self._make(options.max_width)


class Bar:
    """An interval with its estimate on a scale from `low_end` to `top`, as wide as there is room.

    The zero of the scale is marked where it is not at its left end.
    """

    def __init__(
        self, value: float | None, low: float | None, high: float | None, low_end: float, top: float
    ) -> None:
        self._marks = (value, low, high)
        self._low_end, self._span = low_end, max(top - low_end, 1e-12)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(SMALLEST_BAR, BAR_WIDTH + 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield Text(self.line(min(options.max_width, BAR_WIDTH + 1)), style="cyan", no_wrap=True)

    def line(self, width: int) -> str:
        """Return the drawing, `width` characters long."""
        value, low, high = self._marks
        cells = [" "] * width

        def at(number: float) -> int:
            share = (number - self._low_end) / self._span
            return round((width - 1) * min(max(share, 0.0), 1.0))

        if self._low_end < 0:
            cells[at(0.0)] = "┊"
        if value is not None and low is not None and high is not None:
            for place in range(at(low), at(high) + 1):
                cells[place] = "─"
            cells[at(value)] = "●"
        return "".join(cells)


class Scale:
    """The numbers along the bars below it: both ends, and zero where there is room."""

    def __init__(self, low_end: float, top: float) -> None:
        self._low_end, self._top = low_end, top

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(SMALLEST_BAR, BAR_WIDTH + 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield Text(self.line(min(options.max_width, BAR_WIDTH + 1)), no_wrap=True)

    def line(self, width: int) -> str:
        """Return the numbers, in points, in `width` characters.

        Example:
            >>> Scale(-0.05, 0.15).line(16)
            '-5  0         15'
        """
        low, top = (f"{100 * end:.0f}" for end in (self._low_end, self._top))
        if self._low_end >= 0 or self._top <= self._low_end:
            return low + top.rjust(width - len(low))
        zero = round((width - 1) * -self._low_end / (self._top - self._low_end))
        middle = "0" if len(low) < zero < width - len(top) - 1 else ""
        line = low.ljust(zero) + middle if middle else low
        return line + top.rjust(width - len(line))


def sensitivity_table(sensitivity: Sensitivity) -> RenderableType:
    """Return the scan: a bar for each unit's drop, its interval, the decision; then remarks."""
    if sensitivity.is_off:
        return Text("the scan was left out (scan: off); nothing was re-initialized.")
    title = Text(
        f"accuracy lost when a unit is re-initialized ({sensitivity.scheme}), points, "
        f"{percent(sensitivity.confidence, 0)} intervals; "
        f"baseline {percent(sensitivity.baseline_score, 2)}",
        style="italic",
    )
    table = compact_table()
    table.add_column("unit", overflow="fold")
    table.add_column("drop", justify="right", no_wrap=True)
    table.add_column("interval", justify="right", no_wrap=True)
    highs = [unit.high for unit in sensitivity.units if unit.high is not None]
    lows = [unit.low for unit in sensitivity.units if unit.low is not None]
    low_end, top = min([0.0, *lows]), max([0.0, *highs]) or 1.0
    table.add_column(Scale(low_end, top))
    table.add_column("draws", justify="right", no_wrap=True)
    decides = sensitivity.max_drop is not None  # else there is nothing to decide
    if decides:
        table.add_column("decision", no_wrap=True)
    for unit in sensitivity.units:
        interval = f"{points(unit.low)} … {points(unit.high)}" if unit.low is not None else "-"
        style = DECISION_STYLE.get(unit.decision, "dim")
        table.add_row(
            f"{escape(unit.unit)}{'' if unit.removable else ' 🔒'}",
            points(unit.reinit_drop),
            interval,
            Bar(unit.reinit_drop, unit.low, unit.high, low_end, top),
            str(unit.num_draws),
            *([f"[{style}]{escape(unit.decision)}[/]"] if decides else []),
        )
    reasons = {unit.unit: unit.reason for unit in sensitivity.units if unit.reason}
    return Group(title, table, *(Text(f"- {line}") for line in remarks(reasons)))


def remarks(reasons: Mapping[str, str]) -> list[str]:
    """Return the reasons, equal but for their numbers, once each with the units they are about.

    Example:
        >>> remarks({"a": "ended at 0.2", "b": "ended at 0.35"})
        ['ended at 0.2 … 0.35: a, b']
    """
    found: dict[str, tuple[list[str], list[list[str]]]] = {}
    for unit, reason in reasons.items():
        for part in filter(None, reason.split("; ")):
            names, numbers = found.setdefault(NUMBER.sub("#", part), ([], []))
            names.append(unit)
            numbers.append(NUMBER.findall(part))
    return [
        f"{_spans(pattern, numbers)}: {_names(names)}"
        for pattern, (names, numbers) in found.items()
    ]


def _spans(pattern: str, numbers: Sequence[Sequence[str]]) -> str:
    """Return the pattern with the smallest and the largest number in each place."""
    pieces = pattern.split("#")
    text = pieces[0]
    for place, piece in enumerate(pieces[1:]):
        values = sorted({row[place] for row in numbers}, key=float)
        text += (values[0] if len(values) == 1 else f"{values[0]} … {values[-1]}") + piece
    return text


def _names(names: Sequence[str]) -> str:
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1} more"


def plan_table(plan: PrunePlan) -> RenderableType:
    """Return the plan: what goes, on what evidence, and what is left after each removal."""
    return Fitted(lambda width: _plan(plan, wide=width >= WIDE))


def _plan(plan: PrunePlan, *, wide: bool) -> RenderableType:
    target = ", ".join(f"{key} {_word(value)}" for key, value in plan.target.items()) or "none"
    is_scanned = any(each.evidence.reinit_drop is not None for each in plan.remove)
    scanned = "re-initialized (scan), " if is_scanned or not plan.remove else ""
    title = Text(
        f"plan: {len(plan.names)} of {len(plan.ranking)} units go; target: {target}; ranked by "
        f"{plan.criterion}. Losses in points: {scanned}taken out alone and together "
        "(trials on a copy). Left: share of the unpruned network.",
        style="italic",
    )
    table = compact_table()
    table.add_column("", no_wrap=True)
    table.add_column("unit", overflow="fold")
    batches = list((plan.prefixes[0].latency_ms or {}).keys())
    times = [f"ms, {batch}" for batch in batches]
    for name in ("re-init" if scanned else "score", "alone", "together", "params", "FLOPs", *times):
        table.add_column(name, justify="right", no_wrap=True)
    evidence = {removal.unit.name: removal.evidence for removal in plan.remove}
    base = plan.prefixes[0]
    for number, name in enumerate(plan.ranking, start=1):
        prefix, goes, found = plan.prefixes[number], name in evidence, evidence.get(name)
        losses = [*found.losses.values()] if found else [(None, None)] * 3
        first = _loss(*losses[0], wide)
        if found and not scanned:
            first = "-" if found.score is None else f"{found.score:.3g}"
        timed = prefix.latency_ms or {}
        table.add_row(
            "[green]✂[/]" if goes else "",
            escape(name),
            first,
            *(_loss(value, interval, wide) for value, interval in losses[1:]),
            percent(prefix.params / base.params if base.params else None),
            percent(prefix.flops / base.flops if base.flops else None),
            *(
                f"{'' if prefix.interpolated is None else '~'}{timed[batch]:.3g}"
                if batch in timed
                else "-"
                for batch in batches
            ),
            style="" if goes else "dim",
        )
    notes = [Text(f"- {plan.note}")] if plan.note else []
    notes += [Text(f"- times: {plan.timed_on}")] if plan.timed_on else []
    return Group(title, table, *notes)


def _word(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _loss(value: float | None, interval: Interval | None, wide: bool) -> str:
    """Return a loss, with its interval where there is room."""
    if value is None:
        return "-"
    if not wide:
        return points(value)
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return f"{points(value)} ({points(low)} … {points(high)})"
