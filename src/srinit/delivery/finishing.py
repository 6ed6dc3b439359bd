"""What a run hands over: exported files, the report, the result, the seal."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from srinit import export as exporting
from srinit.alternatives import Alternatives
from srinit.comparison import Comparison
from srinit.config.sections import ExportSection, ReportSection
from srinit.custody import overrides
from srinit.custody.readings import Readings
from srinit.errors import MissingExtraError, ModelError
from srinit.evaluate import PartTask
from srinit.gates import GateResult
from srinit.inference_cost import InferenceCost
from srinit.int8 import Int8
from srinit.latency import LatencyPair
from srinit.networks import Detector
from srinit.plan import PrunePlan
from srinit.report import load_report_input, make_overlays, make_pictures, write_report
from srinit.runs import RunFiles, artifacts
from srinit.runs.inputs import config_of
from srinit.runs.pictures import Pictures
from srinit.runs.records import (
    BaselineMetrics,
    CutMetrics,
    Exports,
    ReferenceScores,
    RoundsOutcome,
)
from srinit.runs.result import RunResult
from srinit.sensitivity import Sensitivity
from srinit.sources import DataSet
from srinit.steps.base import FOLDER
from srinit.steps.table import step
from srinit.steps.task import Bench, Evaluator, Execution

CHECKED_EXAMPLES = 64
WRITTEN = ("pruned.onnx", "pruned.xml", "pruned.bin", "pruned.pt2")
NO_ONNX = "export.onnx: false"


@step(
    artifacts.EXPORTS,
    part="export",
    says=("export", lambda found: f"{[file.file for file in found.files]}"),
    reason=lambda found: json.dumps(found.failed),
    but=(
        "export.int8",
        "export.package",
        "export.license",
        "export.huggingface",
        "export.shard_size",
    ),
)
def exports(
    model: nn.Module,
    tuned: nn.Module,
    test: DataSet,
    bench: Bench,
    export_settings: ExportSection,
    files: RunFiles,
    execution: Execution,
) -> Exports:
    """Return the exported files of the tuned network, checked on real test examples.

    The unpruned network is exported too, so that a failure that is not the cut's is told apart
    and both latencies are measured in the same runtime.
    """
    folder = files.path(artifacts.EXPORTS).parent
    files.folder.refuse_links(*(folder / name for name in WRITTEN))
    inputs, _ = next(iter(test.batches(CHECKED_EXAMPLES)))
    exported: list[exporting.Exported] = []
    failed: dict[str, str] = {}
    latency: list[LatencyPair] = []
    pruned, onnx = tuned.cpu(), folder / "pruned.onnx"

    def to_onnx() -> None:
        exported.append(exporting.export_onnx(pruned, inputs, onnx, opset=export_settings.opset))

    def to_openvino() -> None:
        if not any(each.file == onnx.name for each in exported):
            raise ModelError(f"there is no ONNX file to convert ({failed.get('onnx', NO_ONNX)})")
        exported.append(exporting.export_openvino(pruned, inputs, onnx, folder / "pruned.xml"))

    def to_torch() -> None:
        exported.append(exporting.export_torch(pruned, inputs, folder / "pruned.pt2"))

    wanted = {
        "onnx": (export_settings.onnx, to_onnx),
        "openvino": (export_settings.openvino, to_openvino),
        "torch.export": (export_settings.torch_export, to_torch),
    }
    try:
        for number, (name, (is_wanted, write)) in enumerate(wanted.items(), start=1):
            if is_wanted:
                try:
                    write()
                except (ModelError, MissingExtraError) as error:
                    failed[name] = str(error)
            execution.observer.progress(number, len(wanted))
        served = [folder / each.file for each in exported if each.format != "torch.export"]
        if served:
            latency = _latency(model, inputs, served, bench, failed)
    finally:
        for network in (model, tuned):
            network.to(execution.device)
    return Exports(files=tuple(exported), failed=failed, onnx_latency=tuple(latency))


def _latency(
    model: nn.Module,
    inputs: Any,
    served: Sequence[Path],
    bench: Bench,
    failed: dict[str, str],
) -> list[LatencyPair]:
    """Return the times of each file beside those of the unpruned network in its runtime."""
    with tempfile.TemporaryDirectory(prefix="srinit-") as name:
        onnx = Path(name) / "baseline.onnx"
        places = {".onnx": onnx, ".xml": onnx.with_suffix(".xml")}
        try:
            exporting.export_onnx(model.cpu(), inputs, onnx)
            if any(path.suffix == ".xml" for path in served):
                exporting.export_openvino(model, inputs, onnx, places[".xml"])
        except (ModelError, MissingExtraError) as error:
            failed["onnx"] = str(error)
            return []
        return [
            exporting.measure_file_pair(places[path.suffix], path, inputs, batch_size=size)
            for path in served
            for size in ([1] if isinstance(model, Detector) else bench.batch_sizes)
        ]


@step(artifacts.PICTURES, part="report")
def pictures(
    model: nn.Module,
    tuned: nn.Module,
    sensitivity: Sensitivity,
    round_plan: PrunePlan,
    test: DataSet,
    comparison: Comparison,
    report_settings: ReportSection,
    outcomes_of: Evaluator,
) -> Pictures | None:
    """Return heat maps and feature maps of both networks; None where the config wants none.

    Where answers lie in images, what both networks call is drawn into those instead.
    """
    if not report_settings.pictures:
        return None
    execution = outcomes_of.execution
    if isinstance(outcomes_of.scorer, PartTask):
        return make_overlays(
            model,
            tuned,
            task=outcomes_of.scorer,
            data=test,
            changed=(comparison.newly_wrong, comparison.newly_right),
            count=2 * report_settings.pictures,
        )
    try:
        return make_pictures(
            model,
            tuned,
            sensitivity=sensitivity,
            plan=round_plan,
            data=test,
            comparison=comparison,
            num_examples=report_settings.pictures,
            seed=execution.seed,
        )
    except MissingExtraError as error:
        execution.observer.say(f"no pictures: {error}")
        return None


@step(
    artifacts.REPORT,
    part="report",
    says=("report", lambda _: "written"),
    keys={"files": ("roi", "compare.on_production_device")},
    always=True,
)
def report(
    pictures: Pictures | None,
    gates: GateResult,
    ownership: InferenceCost,
    int8: Int8 | None,
    alternatives: Alternatives | None,
    reference_scores: ReferenceScores,
    report_settings: ReportSection,
    files: RunFiles,
) -> str:
    """Write the report and return its path."""
    files.folder.refuse_links(files.path(artifacts.REPORT))
    path = write_report(
        load_report_input(files.folder.path),
        files.folder.path / "report",
        languages=tuple(report_settings.languages),
    )
    return str(path)


@step(
    artifacts.RESULT,
    part="report",
    says=("finish", lambda found: "passed" if found.passed else "failed"),
    reason=lambda found: "; ".join(found.overrides),
)
def result(
    comparison: Comparison,
    gates: GateResult,
    cut: CutMetrics,
    baseline: BaselineMetrics,
    readings: Readings,
    outcome: RoundsOutcome,
    files: RunFiles,
) -> RunResult:
    """Return what a finished run comes to."""
    place = files.folder.path
    onnx = place / "export" / "pruned.onnx"
    return RunResult(
        run=str(place),
        passed=gates.passed and outcome.accepted,
        round=outcome.delivered,
        stopped_because=outcome.reason,
        removed=cut.removed,
        score=comparison.score,
        measured="Accuracy" if comparison.p_value is not None else "Mean score",
        score_cut=cut.score_cut,
        params=(cut.cost_before.params, cut.cost_after.params),
        flops=(cut.cost_before.flops, cut.cost_after.flops),
        latency_ms={
            str(pair.baseline.batch_size): (pair.baseline.median_ms, pair.pruned.median_ms)
            for pair in comparison.latency
        },
        latency_ratio={str(pair.baseline.batch_size): pair.ratio for pair in comparison.latency},
        failed_gates=tuple(gate.sentence for gate in gates.failed),
        report=str(files.path(artifacts.REPORT)),
        onnx=str(onnx) if onnx.is_file() else "",
        folder=str(place / FOLDER) if (place / FOLDER).is_dir() else "",
        perplexity=comparison.perplexity,
        test_readings=len(readings.earlier),
        overrides=overrides.told(overrides.of_run(place), config_of(files.folder)),
        warnings=tuple(each.text for each in baseline.warnings),
    )
