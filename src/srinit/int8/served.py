"""The files of a network that a runtime answers with: float32 and int8, unpruned and pruned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from srinit import export as exporting
from srinit import modules
from srinit.errors import MissingExtraError, ModelError
from srinit.evaluate import Outcomes, Scorer, evaluate
from srinit.int8.openvino import in_float_openvino, quantize_openvino
from srinit.int8.quantize import in_float, quantize
from srinit.latency import Latency, summarize
from srinit.runtimes import files_of
from srinit.serving import FileNetwork, time_files
from srinit.sources import DataSet

CALIBRATION, BATCH, REPEATS = 256, 64, 30
SUFFIXES = {"onnxruntime": ".onnx", "openvino": ".xml"}


class Kind(NamedTuple):
    """Which network, in which numbers, answered by what."""

    network: str  # "unpruned" or "pruned"
    numbers: str  # "float32" or "int8"
    runtime: str  # "onnxruntime" or "openvino"


@dataclass
class Served:
    """The files, and what there is to say of them.

    Args:
        runtimes: What answers.
        scorer: Of an example.
    """

    runtimes: Sequence[str]
    scorer: Scorer
    paths: dict[Kind, Path] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # runtimes without int8
    methods: dict[Kind, str] = field(default_factory=dict)
    calibration_examples: int = 0
    _known: dict[tuple[str, tuple[int, ...]], Outcomes] = field(default_factory=dict)

    def add_float(self, network: str, model: nn.Module, onnx: Path, data: DataSet) -> None:
        """Add a network in float32; files that are not there are written and checked.

        Raises:
            ModelError: It cannot be exported.
        """
        inputs, _ = next(iter(data.batches(BATCH)))
        place = modules.device_of(model)
        try:
            if not onnx.is_file():
                exporting.export_onnx(model.cpu(), inputs, onnx)
            self.paths[Kind(network, "float32", "onnxruntime")] = onnx
            if "openvino" in self.runtimes:
                path = onnx.with_suffix(".xml")
                if not path.is_file():
                    exporting.export_openvino(model.cpu(), inputs, onnx, path)
                self.paths[Kind(network, "float32", "openvino")] = path
        finally:
            model.to(place)

    def add_int8(
        self, folder: Path, calibration: DataSet, loses: Callable[[Outcomes, Outcomes], float],
        data: DataSet, max_drop: float, *, reduced_range: bool,
    ) -> None:  # fmt: skip
        """Add every network in int8; a runtime that cannot is named, with the reason.

        Args:
            folder: Where the files go.
            calibration: The first of its examples by their hashes give the ranges of activations;
                by its answers layers go back to float32 where NNCF's default loses too much.
            loses: What the outcomes on `data` in float32 and in int8 show as the loss.
            data: Examples that show whether it is too much; others than for calibration.
            max_drop: More is too much, a fraction.
            reduced_range: Of onnxruntime; see `quantize`.

        Raises:
            ModelError: No runtime can.
        """
        some = calibration.by_content(CALIBRATION)
        for runtime in self.runtimes:
            try:
                for kind in [k for k in self.paths if k[1:] == ("float32", runtime)]:
                    made = Kind(kind.network, "int8", runtime)
                    target = folder / f"{kind.network}-int8{SUFFIXES[runtime]}"
                    self.methods[made] = "default"
                    if runtime == "onnxruntime":
                        self.calibration_examples = quantize(
                            self.paths[kind], target, some.batches(BATCH),
                            reduced_range=reduced_range,
                        )  # fmt: skip
                        self.paths[made] = target
                        continue
                    singles = some.batches(1)
                    quantize_openvino(self.paths[kind], target, singles)
                    self.paths[made] = target
                    if loses(self.outcomes(kind, data), self.outcomes(made, data)) > max_drop:
                        quantize_openvino(
                            self.paths[kind], target, singles, max_drop=max_drop,
                            score=lambda net: evaluate(
                                net, calibration.by_content(1000).batches(BATCH),
                                scorer=self.scorer,
                            ).score,
                        )  # fmt: skip
                        self.methods[made] = "accuracy-aware"
            except (ModelError, MissingExtraError) as error:
                self.failed[runtime] = str(error)
                self.paths = {k: p for k, p in self.paths.items() if k[1:] != ("int8", runtime)}
        if len(self.failed) == len(self.runtimes):
            raise ModelError("; ".join(self.failed.values()))

    def outcomes(self, kind: Kind, data: DataSet) -> Outcomes:
        """Return what a file answers on a data set; in float32 by one runtime for all, and once.

        Files of float32 were compared with PyTorch when they were written.
        """
        key = (kind.network, data.indices)
        if kind.numbers == "float32" and key in self._known:
            return self._known[key]
        network = FileNetwork(self.paths[kind])
        found = evaluate(network, data.batches(BATCH), scorer=self.scorer)
        if kind.numbers == "float32":
            self._known[key] = found
        return found

    def times(self, inputs: Any, sizes: Sequence[int]) -> dict[int, dict[Kind, list[float]]]:
        """Return the seconds of every file's calls, taken in turn, by batch size."""
        return {
            size: dict(
                zip(
                    self.paths,
                    time_files(list(self.paths.values()), inputs, size, REPEATS),
                    strict=True,
                )
            )
            for size in sizes
        }

    def size_bytes(self, kind: Kind) -> int:
        """Return the bytes of a file, or files."""
        return sum(path.stat().st_size for path in files_of(self.paths[kind]))

    def stayed_float(self, kind: Kind) -> tuple[str, ...]:
        """Return what stayed float32 in int8."""
        if kind.numbers == "float32":
            return ()
        if kind.runtime == "openvino":
            return in_float_openvino(self.paths[kind])
        return in_float(self.paths[kind])


def own_times(times: dict[int, dict[Kind, list[float]]], kind: Kind) -> tuple[Latency, ...]:
    """Return the latency of one file at every batch size."""
    return tuple(
        summarize(found[kind], batch_size=size, device="cpu", runtime=kind.runtime)
        for size, found in times.items()
    )
