"""The pruned network in int8, beside the three that it is to be better than."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from srinit import export as exporting
from srinit import int8 as quantizing
from srinit.comparison import Comparison, CostSide
from srinit.config.sections import GatesSection
from srinit.custody import readings
from srinit.edge import device
from srinit.errors import MissingExtraError, ModelError
from srinit.evaluate import Outcomes, evaluate
from srinit.gates import check_gates
from srinit.int8 import Cell, Int8
from srinit.latency import LatencyPair, pair
from srinit.runs import RunFiles, artifacts
from srinit.runs.kinds import PairedOutcomes
from srinit.runs.records import CutMetrics, Exports
from srinit.sources import DataSet
from srinit.steps.judging import cost_side
from srinit.steps.table import step
from srinit.steps.task import Bench, Execution, Task
from srinit.store import sha256_file, write_bytes

CALIBRATION, BATCH, REPEATS = 256, 64, 30
SHIFT = "max_shift_drop"
KINDS = (("unpruned", "float32"), ("unpruned", "int8"), ("pruned", "float32"), ("pruned", "int8"))


@dataclass(frozen=True)
class Quantizer:
    """What int8 is made and judged with, beside the files of the run."""

    model: nn.Module  # the unpruned network
    calibration: DataSet
    test: DataSet
    task: Task
    bench: Bench
    gates: GatesSection
    execution: Execution

    def say(self, text: str) -> None:
        """Tell whoever watches."""
        self.execution.observer.say(text)


@step(
    artifacts.INT8,
    part="int8",
    says=("int8", lambda found: f"exported {found.file}" if found.file else "not exported"),
    reason=lambda found: found.reason,
)
def int8(
    exports: Exports,
    predictions: PairedOutcomes,
    cut: CutMetrics,
    quantizer: Quantizer | None,
    files: RunFiles,
) -> Int8 | None:
    """Return what int8 comes to after pruning and without; None where the config wants none.

    The file is written if it passes the gates and is faster than float32.
    """
    if quantizer is None:
        return None
    folder = files.path(artifacts.EXPORTS).parent
    files.folder.refuse_links(folder)
    (folder / "pruned-int8.onnx").unlink(missing_ok=True)
    files.folder.record(folder / "pruned-int8.onnx")
    told = (device.processor(), device.instructions(), f"onnxruntime {_version()}")
    if "pruned.onnx" not in {each.file for each in exports.files}:
        why = exports.failed.get("onnx", "export.onnx: false")
        return quantizing.failed(*told, f"there is no ONNX file to quantize ({why})")
    reduced = "avx2" in told[1] and not quantizing.helps_int8(told[1])
    with tempfile.TemporaryDirectory(prefix="srinit-") as name:
        paths = {kind: Path(name) / f"{'-'.join(kind)}.onnx" for kind in KINDS}
        paths["pruned", "float32"] = folder / "pruned.onnx"
        try:
            count = _quantized(paths, quantizer, reduced_range=reduced)
        except (ModelError, MissingExtraError) as error:
            return quantizing.failed(*told, str(error))
        test = quantizer.test
        readings.note_read(files.folder, test.ids, test.data_hash, "int8")
        outcomes = _outcomes(paths, predictions, test, quantizer.task)
        latency, gain = _times(paths, quantizer.bench)
        cells = _cells(paths, outcomes, latency, quantizer.task, cost_side(cut))
        made = Int8(
            processor=told[0], instructions=tuple(told[1]), runtime=told[2],
            calibration_examples=count, reduced_range=reduced, cells=cells, gain=gain,
            in_float=quantizing.in_float(paths["pruned", "int8"]),
        )  # fmt: skip
        made = _judged(made, quantizer.gates, paths["pruned", "int8"], folder)
    said = "int8: {} is exported" if made.file else "int8 is not exported: {}"
    quantizer.say(said.format(made.file or made.reason))
    return made


def _quantized(
    paths: dict[tuple[str, str], Path], quantizer: Quantizer, *, reduced_range: bool
) -> int:
    """Write the unpruned network as ONNX, and both in int8; return the calibration examples."""
    inputs, _ = next(iter(quantizer.test.batches(BATCH)))
    try:
        exporting.export_onnx(quantizer.model.cpu(), inputs, paths["unpruned", "float32"])
    finally:
        quantizer.model.to(quantizer.execution.device)
    examples, count = quantizer.calibration.by_content(CALIBRATION), 0
    for network in ("unpruned", "pruned"):
        count = quantizing.quantize(
            paths[network, "float32"],
            paths[network, "int8"],
            examples.batches(BATCH),
            reduced_range=reduced_range,
        )
    return count


def _version() -> str:
    try:
        return version("onnxruntime")
    except ModuleNotFoundError:
        return "(not installed)"


def _outcomes(
    paths: dict[tuple[str, str], Path], predictions: PairedOutcomes, test: DataSet, task: Task
) -> dict[tuple[str, str], Outcomes]:
    """Return what the four networks answer; float32 is what the comparison kept."""
    found = {
        ("unpruned", "float32"): predictions.baseline,
        ("pruned", "float32"): predictions.pruned,
    }
    for network in ("unpruned", "pruned"):
        served = quantizing.OnnxNetwork(paths[network, "int8"])
        found[network, "int8"] = evaluate(served, test.batches(BATCH), scorer=task.scorer)
    return found


def _times(
    paths: dict[tuple[str, str], Path], bench: Bench
) -> tuple[dict[tuple[str, str], tuple[LatencyPair, ...]], tuple[LatencyPair, ...]]:
    """Return the times of three networks beside the first's, and of int8 beside float32."""
    pairs: dict[tuple[str, str], list[LatencyPair]] = {kind: [] for kind in KINDS[1:]}
    gain = []
    for size in bench.batch_sizes:
        where: dict[str, Any] = {"batch_size": size, "device": "cpu"}
        times = exporting.time_onnx([paths[k] for k in KINDS], bench.inputs, size, REPEATS)
        for kind, own in zip(KINDS[1:], times[1:], strict=True):
            pairs[kind].append(pair(times[0], own, **where, runtime=f"onnxruntime, {kind[1]}"))
        gain.append(pair(times[2], times[3], **where, runtime="onnxruntime, int8"))
    return {kind: tuple(each) for kind, each in pairs.items()}, tuple(gain)


def _cells(
    paths: dict[tuple[str, str], Path],
    outcomes: dict[tuple[str, str], Outcomes],
    latency: dict[tuple[str, str], tuple[LatencyPair, ...]],
    task: Task,
    cost: CostSide,
) -> tuple[Cell, ...]:
    cells = []
    for kind in KINDS:
        comparison: Comparison | None = None
        if kind in latency:
            comparison = task.compared(
                outcomes[KINDS[0]], outcomes[kind], latency=latency[kind],
                cost=cost if kind[0] == "pruned" else None,
            )  # fmt: skip
        size = paths[kind].stat().st_size
        cells.append(Cell(network=kind[0], numbers=kind[1], size_bytes=size, comparison=comparison))
    return tuple(cells)


def _judged(made: Int8, settings: GatesSection, path: Path, folder: Path) -> Int8:
    """Return the record with the judgement; what passes and is faster is exported."""
    limits = settings.limits()
    unmeasured = [name for name in limits if name == SHIFT]
    unmeasured += ["gates.site"] if settings.site else []
    comparison = made.cell("pruned", "int8").comparison
    assert comparison is not None
    gates = check_gates(comparison, {k: v for k, v in limits.items() if k != SHIFT})
    if why := quantizing.verdict(gates, made.gain, unmeasured):
        return replace(made, gates=gates, reason=why)
    target = folder / "pruned-int8.onnx"
    write_bytes(target, path.read_bytes())
    return replace(made, gates=gates, file=target.name, sha256=sha256_file(target))
