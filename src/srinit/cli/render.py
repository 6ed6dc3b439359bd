"""Records drawn for a terminal: the network as a tree, tables with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rich import box
from rich.markup import escape as escape_markup
from rich.table import Table
from rich.tree import Tree

from srinit.display import one_line

if TYPE_CHECKING:
    from srinit.comparison import (
        Comparison,
        CorruptionRobustness,
        Difference,
        ErrorCost,
        FieldComparison,
        PerplexityChange,
    )
    from srinit.finetune import TuneLog
    from srinit.gates import GateResult
    from srinit.runs.records import BaselineMetrics, CutMetrics
    from srinit.units import LockedUnit, Unit, UnitMap

T = TypeVar("T")
BAR_WIDTH = 24
MOST_CLASSES, FOLDED = 12, 10  # a list that is longer is folded to so many
MOST_FLIPPED = 20


def count(value: float) -> str:
    """Return a count with three digits and a unit: 853018 is "853k".

    Example:
        >>> count(853018), count(250971392), count(12)
        ('853k', '251M', '12')
    """
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.0f}"


def escape(text: str) -> str:
    """Return a text from outside for a cell: without markup, on one line."""
    return escape_markup(one_line(text))


def percent(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction as percent; a dash where there is none."""
    return "-" if fraction is None else f"{100 * fraction:.{digits}f}%"


def points(fraction: float | None, digits: int = 1) -> str:
    """Return a difference of fractions as percentage points, with its sign."""
    return "-" if fraction is None else f"{100 * fraction:+.{digits}f}"


def compact_table(**options: Any) -> Table:
    """Return a table that leaves its room to what is in it."""
    return Table(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False, **options
    )


def folded(rows: Sequence[T], key: Callable[[T], float]) -> tuple[Sequence[T], int]:
    """Return the rows that matter most, smallest key first, and how many are left out.

    Short lists stay whole and in their order.

    Example:
        >>> folded([3, 1, 2], lambda row: row), folded(range(100), lambda row: -row)[1]
        (([3, 1, 2], 0), 90)
    """
    if len(rows) <= MOST_CLASSES:
        return rows, 0
    return sorted(rows, key=key)[:FOLDED], len(rows) - FOLDED


def unit_tree(units: UnitMap) -> Tree:
    """Return the network as a tree of its units, with sizes, locks and their reasons."""
    share = sum(u.params for u in units.removable) / units.params if units.params else 0.0
    tree = Tree(
        f"network: {count(units.params)} params, {count(units.flops)} FLOPs per example "
        f"(1 multiply-add = 2); {len(units.removable)} removable units hold "
        f"{percent(share)} of the params, {len(units.locked)} locked"
        + (f"; not counted: {escape(', '.join(units.not_counted))}" if units.not_counted else "")
    )
    branches: dict[str, Tree] = {}
    rows: list[tuple[int, str, str, str]] = [
        (u.position, u.name, u.stage, _removable_line(u, units)) for u in units.removable
    ] + [(u.position, u.name, u.stage, _locked_line(u)) for u in units.locked]
    for _, name, stage, line in sorted(rows):
        path = name.rpartition(".")[0] or stage
        if path not in branches:
            branches[path] = tree.add(f"[bold]{escape(path)}[/]") if path else tree
        branches[path].add(line)
    if units.note:
        tree.add(escape(units.note))
    return tree


def _removable_line(unit: Unit, units: UnitMap) -> str:
    shape = "x".join(map(str, unit.in_shape))
    if unit.out_shape != unit.in_shape:
        shape += " → " + "x".join(map(str, unit.out_shape))
    flops = percent(unit.flops / units.flops if units.flops else None)
    parts = " [dim](its shortcut stays)[/]" if unit.kind == "branch" else ""
    return (
        f"[green]○[/] {escape(unit.name)}  [dim]{_kind(unit)}[/]  {shape}  "
        f"{count(unit.params)} params ({percent(unit.params / units.params)}), {flops} FLOPs"
        f"{parts}"
    )


def _kind(unit: Unit | LockedUnit) -> str:
    """Return the class of a unit, and what it is where it is no block."""
    return escape(unit.class_name if unit.kind == "block" else f"{unit.kind} {unit.class_name}")


def _locked_line(unit: LockedUnit) -> str:
    return (
        f"[red]🔒[/] {escape(unit.name)}  [dim]{_kind(unit)}[/]  "
        f"{count(unit.params)} params  [red]{escape(unit.reason)}[/]: {escape(unit.detail)}"
    )


def baseline_table(metrics: BaselineMetrics) -> Table:
    """Return the unpruned network's metrics as a table."""
    table = Table(title="baseline, on validation data", title_justify="left")
    table.add_column("quantity")
    table.add_column("value", justify="right")
    table.add_row("top-1", f"{percent(metrics.score, 2)} of {metrics.num_examples}")
    table.add_row("params", f"{metrics.params:,}")
    table.add_row("FLOPs per example (1 multiply-add = 2)", f"{metrics.flops:,}")
    if metrics.not_counted:
        table.add_row("not counted in FLOPs", escape(", ".join(metrics.not_counted)))
    table.add_row("weights on disk", f"{metrics.size_bytes / 1e6:.2f} MB")
    for latency in metrics.latency:
        table.add_row(f"latency, batch {latency.batch_size}", f"{latency.median_ms:.2f} ms")
    if metrics.nonfinite:
        table.add_row("NaN or infinite outputs", percent(metrics.nonfinite, 2))
    shown, more = folded(metrics.classes, lambda row: row.recall or 0.0)
    for row in shown:
        table.add_row(f"recall {escape(row.name)}", f"{percent(row.recall)} of {row.num_examples}")
    if more:
        table.add_row(f"{more} more classes", "with a higher recall")
    if metrics.warnings:
        table.caption_justify = "left"
        table.caption = "\n".join(f"WARNING: {escape(each.text)}" for each in metrics.warnings)
    return table


def facts_table(facts: dict[str, Any]) -> Table:
    """Return plain facts, one a row."""
    table = Table(show_header=False, box=None)
    for key, value in facts.items():
        table.add_row(escape(key.replace("_", " ")), escape(str(value)))
    return table


def round_table(metrics: CutMetrics) -> Table:
    """Return what the cut did on validation data."""
    facts = {
        "removed": ", ".join(metrics.removed) or "nothing",
        "accuracy before": percent(metrics.score_before, 2),
        "right after the cut": percent(metrics.score_cut, 2),
        "compensated": percent(metrics.score_compensated, 2),
        "params": f"{metrics.cost_before.params:,} → {metrics.cost_after.params:,}",
        "FLOPs per example": f"{metrics.cost_before.flops:,} → {metrics.cost_after.flops:,}",
        "measured on": f"{metrics.num_examples} validation examples",
    }
    if metrics.cost_before.not_counted:
        facts["not counted in FLOPs"] = ", ".join(metrics.cost_before.not_counted)
    return facts_table(facts)


def tune_table(log: TuneLog) -> Table:
    """Return the course of fine-tuning."""
    table = Table(title=f"fine-tuning: {escape(log.stopped)}, best step {log.best_step}")
    for name in ("epoch", "step", "loss", "validation"):
        table.add_column(name, justify="right")
    for point in log.points:
        loss = "-" if point.loss is None else f"{point.loss:.4f}"
        table.add_row(
            f"{point.epoch:.2f}", str(point.step), loss, percent(point.validation_score, 2)
        )
    return table


def robustness_table(shift: CorruptionRobustness) -> Table:
    """Return what corruptions change."""
    table = Table(
        title=f"{shift.num_examples} corrupted test images, "
        f"{percent(shift.confidence, 0)} intervals",
        title_justify="left",
    )
    for name in ("corruption", "severity", "baseline", "pruned", "loss, points", "interval", "p"):
        table.add_column(name, justify="left" if name == "corruption" else "right")
    for point in shift.points:
        score = point.score
        table.add_row(
            escape(point.corruption),
            str(point.severity),
            percent(score.baseline, 2),
            percent(score.pruned, 2),
            points(score.drop, 2),
            f"{points(score.low, 2)} … {points(score.high, 2)}",
            f"{point.p_adjusted:.3f}",
        )
    return table


def comparison_table(comparison: Comparison) -> Table:
    """Return the comparison: both networks, and what is lost with its interval."""
    score = comparison.score
    table = compact_table(
        title=f"comparison on {comparison.num_examples} examples, "
        f"{percent(comparison.confidence, 0)} intervals",
        title_justify="left",
    )
    table.add_column("quantity", overflow="fold")
    for name in ("baseline", "pruned", "loss, points", "interval"):
        table.add_column(name, justify="right", no_wrap=True)

    def row(name: str, found: Difference) -> None:
        table.add_row(
            escape(name),
            percent(found.baseline, 2),
            percent(found.pruned, 2),
            points(found.value, 2),
            f"{points(found.low, 2)} … {points(found.high, 2)}",
        )

    row("mean score" if comparison.counts else "accuracy", score)
    shown, more = folded(comparison.classes, lambda change: -change.recall.high)
    for change in shown:
        row(f"recall {change.name}", change.recall)
    if more:
        table.add_row(f"{more} more classes", "", "", "", "all: csv/classes.csv of the report")
    if comparison.defects is not None:
        row("missed defects", comparison.defects.missed_increase)
        row("good parts rejected", comparison.defects.rejected_increase)
        for missed in comparison.defects.classes if len(comparison.defects.classes) > 1 else ():
            row(f"missed defects {missed.name}", missed.increase)
    if comparison.auroc is not None:
        row("AUROC", comparison.auroc.loss)
        share = percent(comparison.auroc.false_rejects, 0)
        row(f"missed at {share} rejected", comparison.auroc.missed)
    for count in comparison.counts:
        row(count.name.replace("_", " "), count.change)
    if comparison.error_cost is not None:
        for cells in _cost_rows(comparison.error_cost):
            table.add_row(*cells)
    if comparison.perplexity is not None:
        table.add_row(*_perplexity_row(comparison.perplexity))
    agreement = comparison.agreement
    table.add_row(
        "equal predictions",
        "",
        percent(agreement.rate, 2),
        "",
        f"{percent(agreement.low, 2)} … {percent(agreement.high, 2)}",
    )
    if comparison.defects is not None and comparison.defects.note:
        table.caption, table.caption_justify = escape(comparison.defects.note), "left"
    return table


def _perplexity_row(found: PerplexityChange) -> tuple[str, ...]:
    ratio = found.ratio
    return (
        "perplexity (loss: ratio)",
        f"{found.baseline:.4g}",
        f"{found.pruned:.4g}",
        f"{ratio.known:.3f}x",
        f"{ratio.low:.3f}x … {ratio.high:.4g}x",
    )


def gate_table(gates: GateResult) -> Table:
    """Return what the gates say, one a row."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for gate in gates.gates:
        table.add_row("[green]pass[/]" if gate.passed else "[red]FAIL[/]", escape(gate.sentence))
    return table


def field_tables(site: FieldComparison | None, *, apart: bool) -> list[Table]:
    """Return what was found on the site's data: labeled examples, different answers."""
    if site is None:
        return []
    found = [comparison_table(site.comparison)] if apart and site.comparison else []
    for table in found:
        table.title = f"the site's data, {site.num_labeled} labeled examples"
    rows: list[tuple[str, str]] = []
    if site.unlabeled is not None:
        same, shift = site.unlabeled.agreement, site.unlabeled.confidence_shift
        bound = (
            f"{percent(same.rate, 2)} of {same.total} ({percent(same.low, 2)} … "
            f"{percent(same.high, 2)}): whatever the labels are, accuracy differs by at most "
            f"{percent(1 - same.low, 2)}"
        )
        change = (
            f"{points(shift.value, 2)} points ({points(shift.low, 2)} … {points(shift.high, 2)})"
        )
        rows += [("without labels: equal answers", bound), ("mean confidence", change)]
    for row in site.flipped[:MOST_FLIPPED]:
        truth = f" (label {row.label})" if row.label else ""
        rows.append((row.name, f"{row.baseline} → {row.pruned}{truth}"))
    if len(site.flipped) > MOST_FLIPPED:
        rows.append(("more", str(len(site.flipped) - MOST_FLIPPED)))
    table = Table(show_header=False, box=None, pad_edge=False)
    for cells in rows:
        table.add_row(*map(escape, cells))
    return [*found, table] if rows else found


def _cost_rows(found: ErrorCost) -> list[tuple[str, ...]]:
    """Return what errors cost, and where both networks cost the same."""
    rise = found.increase

    def amount(value: float | None, sign: str = "") -> str:
        return "-" if value is None else f"{value:{sign}.4g}"

    share = percent(found.defect_share, 2)
    rows: list[tuple[str, ...]] = [
        (
            f"cost of errors of a piece ({share} defective)",
            amount(rise.baseline),
            amount(rise.pruned),
            amount(rise.rise, "+"),
            f"{amount(rise.low, '+')} … {amount(rise.high, '+')}",
        )
    ]
    if found.break_even_miss_rate is not None:
        even = percent(found.break_even_miss_rate, 2)
        rows.append(("  costs the same at a miss rate of", "", even, "", ""))
    if found.break_even_ratio is not None:
        ratio = f"{found.break_even_ratio:.3g} rejects"
        rows.append(("  costs the same if a miss costs", "", ratio, "", ""))
    return rows
