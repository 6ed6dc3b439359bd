"""Draws what int8 came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srinit.cli.render import compact_table, escape, percent, points

if TYPE_CHECKING:
    from srinit.int8 import Cell, Int8


def int8_parts(found: Int8) -> list[Any]:
    """Return the table of the four networks, and what was decided, in lines."""
    has = ", ".join(found.instructions) or "no instructions known that help with int8"
    lines = [f"{found.processor} ({has}); {', '.join(found.runtimes)}"]
    lines += [f"{name} could not quantize: {why}" for name, why in found.failed.items()]
    for cell in found.cells:
        if cell.in_float:
            lines.append(f"stayed float32 in {_name(cell)}: {', '.join(cell.in_float)}")
    for pair in found.gain:
        ratio = pair.ratio
        lines.append(
            f"int8 over float32, pruned, {found.chosen}, batch {pair.baseline.batch_size}: "
            f"{ratio.value:.2f} of the time, 95 % interval {ratio.low:.2f} to {ratio.high:.2f}"
        )
    lines.append(
        f"int8 is exported: {found.file}" if found.file else f"int8 is not exported: {found.reason}"
    )
    return [*([_table(found)] if found.cells else []), "\n".join(lines)]


def _name(cell: Cell) -> str:
    method = f" ({cell.method})" if cell.method == "accuracy-aware" else ""
    return f"{cell.network} {cell.numbers} {cell.runtime}{method}"


def _table(found: Int8) -> Any:
    sizes = [pair.baseline.batch_size for pair in found.gain]
    table = compact_table(
        title="int8 on test data, against the unpruned float32 network", title_justify="left"
    )
    table.add_column("network")
    names = ("accuracy", "loss, points", "interval", *(f"ms, batch {n}" for n in sizes), "bytes")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for cell in found.cells:
        table.add_row(escape(_name(cell)), *_cells(cell, found))
    return table


def _cells(cell: Cell, found: Int8) -> list[str]:
    if cell.comparison is None:
        other = found.cell("pruned", "float32").comparison
        score, loss = None if other is None else other.score.baseline, ["", ""]
    else:
        drop, score = cell.comparison.score, cell.comparison.score.pruned
        loss = [points(drop.value, 2), f"{points(drop.low, 2)} … {points(drop.high, 2)}"]
    times = [f"{each.median_ms:.3g}" for each in cell.latency]
    return [percent(score, 2), *loss, *times, f"{cell.size_bytes:,}"]
