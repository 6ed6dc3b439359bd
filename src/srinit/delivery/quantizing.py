"""The pruned network in int8, beside those that it is to be better than."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from srinit import int8 as quantizing
from srinit.comparison import Drop
from srinit.config.sections import GatesSection
from srinit.custody import readings
from srinit.edge import device
from srinit.errors import MissingExtraError, ModelError
from srinit.evaluate import Outcomes
from srinit.gates import check_gates
from srinit.int8 import Cell, Int8, Kind, Served, own_times
from srinit.latency import pair
from srinit.runs import RunFiles, artifacts
from srinit.runs.kinds import PairedOutcomes
from srinit.runs.records import CutMetrics, Exports
from srinit.runtimes import files_of, version_of
from srinit.sources import DataSet
from srinit.steps.judging import cost_side
from srinit.steps.table import step
from srinit.steps.task import Bench, Execution, Task
from srinit.store import sha256_bytes, write_bytes

SHIFT = "max_shift_drop"
MAX_DROP = 0.01  # that int8 may lose on held-out examples, where gates.max_drop says nothing
NAME = "pruned-int8"
REFERENCE = Kind("unpruned", "float32", "onnxruntime")


@dataclass(frozen=True)
class Quantizer:
    """What int8 is made and judged with, beside the files of the run."""

    model: nn.Module  # the unpruned network
    calibration: DataSet
    validation: DataSet
    test: DataSet
    task: Task
    bench: Bench
    gates: GatesSection
    execution: Execution

    def say(self, text: str) -> None:
        """Tell whoever watches."""
        self.execution.observer.say(text)

    @property
    def max_drop(self) -> float:
        """What may be lost, a fraction."""
        wanted = self.gates.limits().get("max_drop")
        return wanted if isinstance(wanted, float) else MAX_DROP


@step(
    artifacts.INT8,
    part="int8",
    says=("int8", lambda found: f"exported {found.file}" if found.file else "not exported"),
    reason=lambda found: found.reason,
)
def int8(
    exports: Exports,
    tuned: nn.Module,
    baseline_outcomes: Outcomes,
    predictions: PairedOutcomes,
    cut: CutMetrics,
    quantizer: Quantizer | None,
    files: RunFiles,
) -> Int8 | None:
    """Return what int8 comes to after pruning and without; None where the config wants none.

    The runtime is chosen on validation data. The file is written if it passes the gates and is
    faster than float32.
    """
    if quantizer is None:
        return None
    folder = files.path(artifacts.EXPORTS).parent
    files.folder.refuse_links(folder)
    for path in (folder / f"{NAME}{ending}" for ending in (".onnx", ".xml", ".bin")):
        path.unlink(missing_ok=True)
        files.folder.record(path)
    formats = {each.format for each in exports.files}
    runtimes = ["onnxruntime"] + ["openvino"] * ("openvino" in formats)
    told = (device.processor(), device.instructions(), [version_of(name) for name in runtimes])
    if "onnx" not in formats:
        why = exports.failed.get("onnx", "export.onnx: false")
        return quantizing.failed(*told, f"there is no ONNX file to quantize ({why})")
    served = Served(runtimes, quantizer.task.scorer)
    with tempfile.TemporaryDirectory(prefix="srinit-") as name:
        try:
            served.add_float("unpruned", quantizer.model, Path(name) / "unpruned.onnx",
                             quantizer.test)  # fmt: skip
            served.add_float("pruned", tuned, folder / "pruned.onnx", quantizer.test)
            served.add_int8(
                Path(name), quantizer.calibration,
                lambda before, after: _loss(quantizer.task, before, after).value or 0.0,
                quantizer.validation, quantizer.max_drop,
                reduced_range=quantizing.needs_reduced_range(told[1]),
            )  # fmt: skip
        except (ModelError, MissingExtraError) as error:
            return quantizing.failed(*told, str(error))
        readings.note_read(files.folder, quantizer.test.ids, quantizer.test.data_hash, "int8")
        made = _measured(served, baseline_outcomes, predictions, quantizer, cut)
        made = replace(
            made,
            processor=told[0],
            instructions=tuple(told[1]),
            runtimes=tuple(told[2]),
            reduced_range=quantizing.needs_reduced_range(told[1]),
        )
        made = _judged(made, quantizer.gates, served, folder)
    said = "int8: {} is exported" if made.file else "int8 is not exported: {}"
    quantizer.say(said.format(made.file or made.reason))
    return made


def _loss(task: Task, before: Outcomes, after: Outcomes) -> Drop:
    return task.compared(before, after).score


def _measured(
    served: Served,
    baseline_outcomes: Outcomes,
    predictions: PairedOutcomes,
    quantizer: Quantizer,
    cut: CutMetrics,
) -> Int8:
    """Return the table, the runtime that was chosen, and its gain; float32 answers were kept."""
    task, bench = quantizer.task, quantizer.bench
    times = served.times(bench.inputs, bench.batch_sizes)
    kept = {"unpruned": predictions.baseline, "pruned": predictions.pruned}
    cells = []
    for kind in served.paths:
        is_float = kind.numbers == "float32"
        comparison, held_out = None, None
        if not is_float:
            outcomes = served.outcomes(kind, quantizer.validation)
            held_out = _loss(task, baseline_outcomes, outcomes)
        if not is_float or kind.network == "pruned":
            found = kept[kind.network] if is_float else served.outcomes(kind, quantizer.test)
            comparison = task.compared(
                predictions.baseline,
                found,
                latency=tuple(
                    pair(
                        own[REFERENCE._replace(runtime=kind.runtime)], own[kind],
                        batch_size=size, device="cpu", runtime=f"{kind.runtime}, {kind.numbers}",
                    )
                    for size, own in times.items()
                ),
                cost=cost_side(cut) if kind.network == "pruned" else None,
            )  # fmt: skip
        cells.append(
            Cell(
                network=kind.network, numbers=kind.numbers, runtime=kind.runtime,
                size_bytes=served.size_bytes(kind), latency=own_times(times, kind),
                comparison=comparison, held_out=held_out,
                method=served.methods.get(kind, ""), in_float=served.stayed_float(kind),
            )
        )  # fmt: skip
    best = quantizing.chosen(cells, quantizer.max_drop)
    gain = tuple(
        pair(
            own[Kind("pruned", "float32", best)], own[Kind("pruned", "int8", best)],
            batch_size=size, device="cpu", runtime=f"{best}, int8",
        )
        for size, own in times.items()
    )  # fmt: skip
    return Int8(
        processor="", instructions=(), runtimes=(),
        calibration_examples=served.calibration_examples,
        cells=tuple(cells), failed=served.failed, chosen=best, gain=gain,
    )  # fmt: skip


def _judged(made: Int8, settings: GatesSection, served: Served, folder: Path) -> Int8:
    """Return the record with the judgement; what passes and is faster is exported."""
    limits = settings.limits()
    unmeasured = [name for name in limits if name == SHIFT]
    unmeasured += ["gates.site"] if settings.site else []
    comparison = made.cell("pruned", "int8", made.chosen).comparison
    assert comparison is not None
    gates = check_gates(comparison, {k: v for k, v in limits.items() if k != SHIFT})
    if why := quantizing.verdict(gates, made.gain, unmeasured):
        return replace(made, gates=gates, reason=why)
    source = served.paths[Kind("pruned", "int8", made.chosen)]
    target = folder / f"{NAME}{source.suffix}"
    contents = [path.read_bytes() for path in files_of(source)]
    for place, content in zip(files_of(target), contents, strict=True):
        write_bytes(place, content)
    digest = sha256_bytes(b"".join(contents))
    return replace(made, gates=gates, file=target.name, sha256=digest)
