"""Tables for a spreadsheet: Japanese intact, and no cell that a spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from srinit.report.data import ReportInput
from srinit.units.records import LockedUnit, Unit

BOM = "\ufeff"  # without it Excel reads UTF-8 as the local code page
KNOWN = ["unit", "position", "stage", "kind", "params", "flops", "removed", "rank"]
KNOWN += ["locked_reason", "locked_detail"]
MEASURED = ["reinit_drop", "low", "high", "decision", "num_draws", "num_examples", "draw_spread"]
MEASURED += ["balanced_drop", "top_share", "nonfinite", "reason"]
RISKY = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "＝", "＋", "－", "＠")


def tables(report: ReportInput) -> dict[str, str]:
    """Return the text of every CSV file by its name; fractions and counts, not rounded."""
    found = {"layers.csv": _layers(report), "removals.csv": _removals(report)}
    if report.comparison is not None and report.comparison.classes:
        found["classes.csv"] = _classes(report)
    if report.gates is not None:
        found["gates.csv"] = _gates(report)
    return found


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    r"""Return a CSV file's text: UTF-8 with a byte order mark, lines ending in CR LF.

    Example:
        >>> table(["unit", "drop"], [["=1+1", -0.5]])
        "\ufeffunit,drop\r\n'=1+1,-0.5\r\n"
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([cell(value) for value in row])
    return BOM + buffer.getvalue()


def cell(value: Any) -> Any:
    """Return a value that no spreadsheet takes for a formula; numbers stay numbers.

    Source: OWASP, CSV injection, https://owasp.org/www-community/attacks/CSV_Injection
    """
    if isinstance(value, str) and value.lstrip(" \u3000").startswith(RISKY):
        return "'" + value
    return "" if value is None else value


def _layers(report: ReportInput) -> str:
    units = report.sensitivity.unit_map
    measured = {row.unit: row for row in report.sensitivity.units}
    locked = {unit.name: unit for unit in units.locked}
    removed = set(report.plan.names)
    ranks = {name: rank for rank, name in enumerate(report.plan.ranking, start=1)}
    rows = []
    known: list[Unit | LockedUnit] = [*units.removable, *units.locked]
    for unit in sorted(known, key=lambda unit: unit.position):
        found = measured.get(unit.name)
        lock = locked.get(unit.name)
        rows.append(
            (
                unit.name,
                unit.position,
                unit.stage,
                unit.kind,
                unit.params,
                unit.flops,
                unit.name in removed,
                ranks.get(unit.name),
                lock.reason if lock else "",
                lock.detail if lock else "",
                *(getattr(found, name, None) for name in MEASURED),
            )
        )
    return table([*KNOWN, *MEASURED], rows)


def _removals(report: ReportInput) -> str:
    prefixes = report.plan.prefixes
    sizes = sorted({size for p in prefixes for size in p.latency_ms or {}})
    rows = [
        (
            prefix.num_removed,
            report.plan.ranking[index - 1] if index else "",
            prefix.params,
            prefix.flops,
            *((prefix.latency_ms or {}).get(size) for size in sizes),
        )
        for index, prefix in enumerate(prefixes)
    ]
    names = [f"latency_ms_batch_{size}" for size in sizes]
    return table(["num_removed", "last_removed", "params", "flops", *names], rows)


def _classes(report: ReportInput) -> str:
    assert report.comparison is not None
    header = ["class", "num_examples", "recall_baseline", "recall_pruned", "recall_drop"]
    header += ["recall_drop_low", "recall_drop_high", "precision_baseline", "precision_pruned"]
    header += ["p_value", "p_adjusted"]
    rows = [
        (
            row.name,
            row.num_examples,
            row.recall.baseline,
            row.recall.pruned,
            row.recall.drop,
            row.recall.low,
            row.recall.high,
            row.precision_baseline,
            row.precision_pruned,
            row.p_value,
            row.p_adjusted,
        )
        for row in report.comparison.classes
    ]
    return table(header, rows)


def _gates(report: ReportInput) -> str:
    assert report.gates is not None
    rows = [
        (gate.name, gate.passed, gate.measured, gate.bound, gate.limit)
        for gate in report.gates.gates
    ]
    return table(["gate", "passed", "measured", "bound", "limit"], rows)
