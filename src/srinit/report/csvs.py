"""What the report shows as tables for a spreadsheet; fractions and counts, not rounded."""

from __future__ import annotations

from collections.abc import Sequence

from srinit.plan import RemovalEvidence
from srinit.report.confusion_pairs import ConfusionPair
from srinit.report.data import ReportInput
from srinit.report.rounds import score
from srinit.report.samples import class_name
from srinit.store import csv_text
from srinit.units.records import LockedUnit, Unit

KNOWN = ["unit", "position", "stage", "kind", "params", "flops", "removed", "rank"]
KNOWN += ["locked_reason", "locked_detail"]
MEASURED = ["reinit_drop", "low", "high", "decision", "num_draws", "num_examples", "draw_spread"]
MEASURED += ["balanced_drop", "top_share", "nonfinite", "reason"]
SCORED = ["score", "low", "high"]  # by the criterion that ranks
EVIDENCE = ["reinit_drop", "low", "high", "trial_cost", "trial_low", "trial_high"]
EVIDENCE += ["joint_cost", "joint_low", "joint_high", "trial_examples"]


def tables(report: ReportInput) -> dict[str, str]:
    """Return the text of every CSV file by its name; fractions and counts, not rounded."""
    found = {"layers.csv": _layers(report), "removals.csv": _removals(report)}
    if any(round_.cut for round_ in report.rounds):
        found["rounds.csv"] = _rounds(report)
    if report.onnx_latency or (report.comparison is not None and report.comparison.latency):
        found["latency.csv"] = _latency(report)
    if report.comparison is not None and report.comparison.classes:
        found["classes.csv"] = _classes(report)
    if report.last is not None and report.last.confusion_pairs:
        found["mistakes.csv"] = _confusion_pairs(report.last.confusion_pairs, report.class_names)
    if report.gates is not None:
        found["gates.csv"] = _gates(report)
    return found


def _layers(report: ReportInput) -> str:
    units = report.sensitivity.unit_map
    measured = {row.unit: row for row in report.sensitivity.units}
    locked = {unit.name: unit for unit in units.locked}
    scored = {unit.unit: unit for unit in report.scores.units} if report.scores else {}
    criterion = report.scores.criterion if report.scores else None
    beside = {scores.criterion: {u.unit: u for u in scores.units} for scores in report.beside}
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
                criterion if unit.name in scored else None,
                *(getattr(scored.get(unit.name), name, None) for name in SCORED),
                *(getattr(by.get(unit.name), n, None) for by in beside.values() for n in SCORED),
            )
        )
    names = ["criterion", *(f"criterion_{name}" for name in SCORED)]
    names += [f"{criterion}_{name}" for criterion in beside for name in SCORED]
    return csv_text([*KNOWN, *MEASURED, *names], rows)


def _removals(report: ReportInput) -> str:
    prefixes = report.plan.prefixes
    sizes = sorted({size for p in prefixes for size in p.latency_ms or {}})
    evidence = {removal.unit.name: removal.evidence for removal in report.plan.remove}
    last = ["", *report.plan.ranking]
    rows = [
        (
            prefix.num_removed,
            last[index],
            prefix.params,
            prefix.flops,
            *((prefix.latency_ms or {}).get(size) for size in sizes),
            *((prefix.interpolated is None,) if sizes else ()),
            last[index] in evidence,
            *_evidence(evidence.get(last[index])),
        )
        for index, prefix in enumerate(prefixes)
    ]
    names = [f"latency_ms_batch_{size}" for size in sizes] + (["latency_measured"] if sizes else [])
    header = ["num_removed", "last_removed", "params", "flops", *names, "in_plan", *EVIDENCE]
    return csv_text(header, rows)


def _evidence(found: RemovalEvidence | None) -> tuple[float | None, ...]:
    """Return what is known of a removal, as `EVIDENCE` names it."""
    if found is None:
        return (None,) * len(EVIDENCE)
    cells: list[float | None] = []
    for value, interval in found.losses.values():
        cells += [value, *((None, None) if interval is None else (interval.low, interval.high))]
    return (*cells, None if found.alone is None else found.alone.num_examples)


def _rounds(report: ReportInput) -> str:
    header = ["round", "rejected", "removed", "num_examples", "score_before", "score_cut"]
    header += ["score_compensated", "score_tuned", "validation_drop", "drop_low", "drop_high"]
    header += ["failed_gates"]
    rows = []
    for round_ in (*report.rounds, *report.rejected):
        loss = round_.validation.score if round_.validation else None
        failed = round_.validation_gates.failed if round_.validation_gates else ()
        rows.append(
            (
                round_.number,
                round_ in report.rejected,
                " ".join(round_.removed),
                round_.cut.num_examples if round_.cut else None,
                *(score(round_, key) for key in ("before", "cut", "compensated", "tuned")),
                *(getattr(loss, key, None) for key in ("drop", "low", "high")),
                "; ".join(gate.name for gate in failed),
            )
        )
    return csv_text(header, rows)


def _latency(report: ReportInput) -> str:
    pairs = (*(report.comparison.latency if report.comparison else ()), *report.onnx_latency)
    rows = [
        (side.batch_size, side.runtime, side.device, side.threads, network, call, value)
        for pair in pairs
        for network, side in (("baseline", pair.baseline), ("pruned", pair.pruned))
        for call, value in enumerate(side.samples_ms, start=1)
    ]
    header = ["batch_size", "runtime", "device", "threads", "network", "call", "ms"]
    return csv_text(header, rows)


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
    return csv_text(header, rows)


def _confusion_pairs(found: Sequence[ConfusionPair], names: Sequence[str]) -> str:
    rows = [
        (
            class_name(names, mistake.truth),
            class_name(names, mistake.answer) if mistake.answer >= 0 else "",
            mistake.before,
            mistake.after,
        )
        for mistake in found
    ]
    return csv_text(["truth", "answer", "num_baseline", "num_pruned"], rows)


def _gates(report: ReportInput) -> str:
    assert report.gates is not None
    rows = [
        (gate.name, gate.passed, gate.measured, gate.bound, gate.limit)
        for gate in report.gates.gates
    ]
    return csv_text(["gate", "passed", "measured", "bound", "limit"], rows)
