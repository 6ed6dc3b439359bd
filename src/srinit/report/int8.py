"""What int8 came to, as the page tells it: four networks, the gain, what was decided."""

from __future__ import annotations

from srinit.int8 import Cell, Int8
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.data import ReportInput
from srinit.report.prose import RUNTIMES, device_words
from srinit.report.text import LocalizedText, Translator, untranslated


@record
class Int8Row:
    """One of the four networks."""

    name: LocalizedText
    runtime: LocalizedText
    accuracy: str
    change: str  # in points, against the unpruned float32 network
    range: LocalizedText
    times: tuple[str, ...]  # milliseconds, one a batch size
    size: str


@record
class Int8View:
    """The table and the sentences below it."""

    batches: tuple[str, ...]
    rows: tuple[Int8Row, ...]
    lines: tuple[LocalizedText, ...]


def int8_view(report: ReportInput, say: Translator) -> Int8View | None:
    """Return what the page shows of int8; None where the config wanted none."""
    found = report.int8
    if found is None:
        return None
    if not found.cells:
        return Int8View(batches=(), rows=(), lines=(say("int8.none", why=found.reason),))
    return Int8View(
        batches=tuple(str(pair.baseline.batch_size) for pair in found.gain),
        rows=tuple(_row(cell, found, say) for cell in found.cells),
        lines=_lines(found, say),
    )


def _row(cell: Cell, found: Int8, say: Translator) -> Int8Row:
    own, other = cell.comparison, found.cell("pruned", "float32").comparison
    ms = [each.median_ms for each in cell.latency]
    if own is not None:
        score = own.score.pruned
        change = fmt.points(None if own.score.value is None else -own.score.value)
        ends = fmt.ends(fmt.points(-own.score.high), fmt.points(-own.score.low))
    else:
        score = other.score.baseline if other else None
        change, ends = "", untranslated("")
    key = "int8.unpruned" if cell.network == "unpruned" else "int8.pruned"
    return Int8Row(
        name=say(key, numbers=cell.numbers),
        runtime=device_words("", cell.runtime),
        accuracy=fmt.rate(score),
        change=change,
        range=ends,
        times=tuple(map(fmt.milliseconds, ms)),
        size=fmt.scaled(cell.size_bytes, "B"),
    )


def _lines(found: Int8, say: Translator) -> tuple[LocalizedText, ...]:
    gains = (
        say(
            "int8.gain",
            runtime=RUNTIMES[found.chosen],
            batch=str(pair.baseline.batch_size),
            ratio=fmt.percent(pair.ratio.value, 0),
            range=fmt.ends(fmt.percent(pair.ratio.low, 0), fmt.percent(pair.ratio.high, 0)),
        )
        for pair in found.gain
    )
    has = untranslated(", ".join(found.instructions)) if found.instructions else say("int8.unknown")
    told = say(
        "int8.device", device=found.processor, instructions=has,
        runtime=", ".join(found.runtimes),
        num=fmt.fixed(found.calibration_examples),
    )  # fmt: skip
    decided = (
        say("int8.exported", file=found.file)
        if found.file
        else say("int8.refused", why=found.reason)
    )
    aware = any(cell.method == "accuracy-aware" for cell in found.cells)
    left = [
        say("int8.in_float", runtime=RUNTIMES[cell.runtime], names=", ".join(cell.in_float))
        for cell in found.cells
        if cell.in_float and cell.network == "pruned"
    ]
    missing = [
        say("int8.failed", runtime=RUNTIMES[name], why=why) for name, why in found.failed.items()
    ]
    return (
        *gains,
        *((say("int8.chosen", runtime=RUNTIMES[found.chosen]),) if len(found.runtimes) > 1 else ()),
        decided,
        told,
        *((say("int8.aware"),) if aware else ()),
        *left,
        *missing,
    )
