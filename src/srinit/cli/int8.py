"""Draws what int8 came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srinit.cli.render import compact_table, escape, percent, points

if TYPE_CHECKING:
    from srinit.int8 import Cell, Int8


def int8_parts(found: Int8) -> list[Any]:
    """Return the table of the four networks, and what was decided, in lines."""
    has = ", ".join(found.instructions) or "no instructions known that help with int8"
    lines = [f"{found.processor} ({has}); {found.runtime}"]
    if found.in_float:
        lines.append(f"stayed float32: {', '.join(found.in_float)}")
    for pair in found.gain:
        ratio = pair.ratio
        lines.append(
            f"int8 over float32, pruned, batch {pair.baseline.batch_size}: "
            f"{ratio.value:.2f} of the time, 95 % interval {ratio.low:.2f} to {ratio.high:.2f}"
        )
    lines.append(
        f"int8 is exported: {found.file}" if found.file else f"int8 is not exported: {found.reason}"
    )
    return [*([_table(found)] if found.cells else []), "\n".join(lines)]


def _table(found: Int8) -> Any:
    sizes = [pair.baseline.batch_size for pair in found.gain]
    table = compact_table(
        title="int8 by onnxruntime, against the unpruned float32 network", title_justify="left"
    )
    table.add_column("network")
    names = ("accuracy", "loss, points", "interval", *(f"ms, batch {n}" for n in sizes), "bytes")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for cell in found.cells:
        table.add_row(escape(f"{cell.network} {cell.numbers}"), *_cells(cell, found))
    return table


def _cells(cell: Cell, found: Int8) -> list[str]:
    other = found.cell("pruned", "float32").comparison
    if cell.comparison is None:
        known = [] if other is None else other.latency
        score = None if other is None else other.score.baseline
        loss, times = ["", ""], [pair.baseline.median_ms for pair in known]
    else:
        drop, score = cell.comparison.score, cell.comparison.score.pruned
        loss = [points(drop.value, 2), f"{points(drop.low, 2)} … {points(drop.high, 2)}"]
        times = [pair.pruned.median_ms for pair in cell.comparison.latency]
    return [percent(score, 2), *loss, *(f"{ms:.3g}" for ms in times), f"{cell.size_bytes:,}"]
