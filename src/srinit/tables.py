"""Short tables of records, as text for `print` and as HTML for notebooks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from html import escape
from typing import Protocol

from srinit.display import one_line
from srinit.records import record

MOST = 40  # rows that are shown
WIDTH, HEIGHT, EDGE = 360, 120, 24  # of a curve, in pixels
COLORS = ("#0b5cad", "#c2410c")


@record
class Table:
    """A table that a record shows of itself; the first column is text, the others are numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    curves: tuple[tuple[str, tuple[float, ...]], ...] = ()  # name and values, for notebooks

    def text(self) -> str:
        """Return the table in columns; a long one ends with how many rows are left out.

        Example:
            >>> print(Table(title="two", head=("unit", "params"), rows=(("a", "12"),)).text())
            two
            unit  params
            a         12
        """
        rows = [tuple(map(one_line, row)) for row in (self.head, *self.rows[:MOST])]
        widths = [max(len(row[column]) for row in rows) for column in range(len(self.head))]
        lines = [self.title]
        for row in rows:
            first, *numbers = (
                cell.rjust(width) if column else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join([first, *numbers]).rstrip())
        return "\n".join([*lines, *self._more()])

    def html(self) -> str:
        """Return the table as HTML without scripts; what comes from outside is escaped."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.head)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(one_line(cell))}</td>" for cell in row) + "</tr>"
            for row in self.rows[:MOST]
        )
        more = "".join(f"<p>{escape(line)}</p>" for line in self._more())
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f"<p>{escape(self.title)}</p>{_drawn(self.curves)}{table}{more}"

    def _more(self) -> list[str]:
        left = len(self.rows) - MOST
        return [f"... and {left} more"] if left > 0 else []


class Shown(ABC):
    """A record that shows itself as a table: `print(it)`, and as HTML in a notebook."""

    @abstractmethod
    def _table(self) -> Table:
        """Return what is shown."""

    def __str__(self) -> str:
        return self._table().text()

    def _repr_html_(self) -> str:
        return self._table().html()


class Left(Protocol):
    """What is left of a network after so many removals."""

    @property
    def params(self) -> int:
        """Parameters."""

    @property
    def flops(self) -> int:
        """FLOPs of one example."""

    @property
    def latency_ms(self) -> dict[str, float] | None:
        """Batch size to time, where it was measured."""


def removal_table(
    names: Sequence[str], ranking: Sequence[str], prefixes: Sequence[Left], criterion: str
) -> Table:
    """Return a plan as a table: what goes, and what is left after each removal."""
    first = prefixes[0]
    params = tuple(each.params / max(first.params, 1) for each in prefixes)
    flops = tuple(each.flops / max(first.flops, 1) for each in prefixes)
    batches = tuple(first.latency_ms or {})
    rows = []
    for number, name in enumerate(ranking, start=1):
        timed = prefixes[number].latency_ms or {}
        times = (f"{timed[batch]:.3g}" if batch in timed else "-" for batch in batches)
        goes = "goes" if name in names else "stays"
        rows.append((name, goes, percent(params[number]), percent(flops[number]), *times))
    return Table(
        title=f"{len(names)} of {len(ranking)} units go, ranked by {criterion}; left of the "
        "unpruned network after each removal:",
        head=("unit", "", "params", "FLOPs", *(f"ms, batch {batch}" for batch in batches)),
        rows=tuple(rows),
        curves=(("parameters", params), ("FLOPs", flops)),
    )


def percent(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction as percent; a dash where there is none."""
    return "-" if fraction is None else f"{100 * fraction:.{digits}f}%"


def points(fraction: float | None) -> str:
    """Return a difference of fractions in points, with its sign."""
    return "-" if fraction is None else f"{100 * fraction:+.2f}"


def _drawn(curves: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Return curves of shares (1 is the top) by their index, as a static SVG."""
    if not any(len(values) > 1 for _, values in curves):
        return ""
    lines = []
    for number, (name, values) in enumerate(curves):
        color, step = COLORS[number % len(COLORS)], (WIDTH - 2 * EDGE) / max(len(values) - 1, 1)
        spots = " ".join(
            f"{EDGE + index * step:.1f},{EDGE + (1 - value) * (HEIGHT - 2 * EDGE):.1f}"
            for index, value in enumerate(values)
        )
        lines.append(
            f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{spots}"'
            + (' stroke-dasharray="5 3"/>' if number else "/>")
            + f'<text x="{EDGE + 110 * number}" y="14" fill="{color}">{escape(name)}</text>'
        )
    axis = f'<path stroke="currentColor" d="M{EDGE} {HEIGHT - EDGE}H{WIDTH - EDGE}"/>'
    return (
        f'<svg role="img" width="{WIDTH}" height="{HEIGHT}" font-size="12">{axis}{"".join(lines)}'
        f'<text x="{WIDTH - EDGE}" y="{HEIGHT - 6}" text-anchor="end" fill="currentColor">'
        "units removed</text></svg>"
    )
