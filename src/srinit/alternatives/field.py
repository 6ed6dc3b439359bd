"""All alternatives side by side: files and networks that answer the same examples, in turn."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from srinit.alternatives.compiled import Compiled
from srinit.comparison import Comparison
from srinit.errors import MissingExtraError, ModelError, PruneError
from srinit.evaluate import Outcomes, Scorer, evaluate
from srinit.int8 import Kind, Served
from srinit.int8.served import BATCH, REPEATS
from srinit.latency import call_of, time_in_turn
from srinit.runtimes import installed
from srinit.serving import caller
from srinit.sources import DataSet
from srinit.sources.pool import Pool

SECONDS = 0.5  # that each is timed at one batch size, about
Caller = Callable[[int], Callable[[], None]]  # from the batch size to one call


@dataclass
class Entry:
    """One alternative before it is timed."""

    kind: str
    detail: str
    numbers: str
    runtime: str
    size_bytes: int
    outcomes: Outcomes
    call: Caller


@dataclass
class Field:
    """All alternatives, as they are gathered."""

    compared: Callable[..., Comparison]  # two outcomes, and keyword arguments of a comparison
    scorer: Scorer
    inputs: Any  # to time on, on the CPU
    batch_sizes: Sequence[int]
    data: DataSet
    folder: Path
    entries: list[Entry] = field(default_factory=list)
    not_tried: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Outcomes] = field(default_factory=dict)  # of float32 networks

    def attempt(self, what: str, call: Callable[[], None]) -> None:
        """Try one; what cannot be done is named."""
        try:
            call()
        except (PruneError, MissingExtraError) as error:
            self.not_tried[what] = str(error)

    def serve(
        self, networks: Mapping[str, nn.Module], calibration: DataSet, max_drop: float,
        *, reduced_range: bool,
    ) -> None:  # fmt: skip
        """Add both networks by every runtime that is installed, in float32 and int8."""
        served = Served(_runtimes(), self.scorer)
        for name, network in networks.items():
            served.add_float(name, network, self.folder / f"{name}.onnx", self.data)
        for kind in list(served.paths):
            self.add_file(served, kind)

        def loses(before: Outcomes, after: Outcomes) -> float:
            return self.compared(before, after).score.value or 0.0

        def quantize() -> None:
            served.add_int8(
                self.folder, calibration, loses, self.data, max_drop, reduced_range=reduced_range
            )  # fmt: skip

        self.attempt("int8", quantize)
        self.not_tried |= {f"int8, {name}": why for name, why in served.failed.items()}
        for kind in served.paths:
            if kind.numbers == "int8":
                self.add_file(served, kind)

    def add_file(self, served: Served, kind: Kind, detail: str = "", inputs: Any = None) -> None:
        """Add what a file answers; in float32 what the first file of its network does."""
        key, path = f"{kind.network}{detail}", served.paths[kind]
        outcomes = served.outcomes(kind, self.data)
        if kind.numbers == "float32":
            self.answers[key] = outcomes
        batch = self.inputs if inputs is None else inputs
        self.entries.append(
            Entry(
                kind.network, detail, kind.numbers, kind.runtime, served.size_bytes(kind), outcomes,
                lambda size: caller(path, batch, size),
            )
        )  # fmt: skip

    def in_torch(self, networks: Mapping[str, nn.Module], *, compiles: bool) -> None:
        """Add both networks as PyTorch runs them, and as it compiles them."""
        for name, network in networks.items():
            own = copy.deepcopy(network).cpu().eval()
            size = sum(each.numel() * each.element_size() for each in own.state_dict().values())
            if name not in self.answers:
                self.answers[name] = evaluate(own, self.data.batches(BATCH), scorer=self.scorer)
            told = (name, "", "float32")
            answers = self.answers[name]

            def eager(size: int, own: nn.Module = own) -> Callable[[], None]:
                return call_of(own, self.inputs, size)

            self.entries.append(Entry(*told, "torch", size, answers, eager))
            if not compiles:
                self.not_tried["torch.compile"] = "alternatives.compile: false"
                continue
            compiled = Compiled(own, self.inputs, self.batch_sizes)
            self.attempt(f"torch.compile, {name}", compiled.check)
            if f"torch.compile, {name}" not in self.not_tried:
                self.entries.append(Entry(*told, "torch.compile", size, answers, compiled.call))

    def lower(self, network: nn.Module, share: float) -> None:
        """Add the unpruned network, its weights as they are, on smaller images."""
        if not self.data.pool.holds_images:
            raise ModelError("the examples are no images")
        data, sides = smaller(self.data, share)
        inputs, _ = next(iter(data.batches(BATCH)))
        served = Served(_runtimes(), self.scorer)
        name = f"resolution-{sides[0]}x{sides[1]}.onnx"
        served.add_float("resolution", network, self.folder / name, data)
        whole, self.data = self.data, data
        try:
            for kind in served.paths:
                self.add_file(served, kind, f"{sides[0]}x{sides[1]}", inputs)
        finally:
            self.data = whole

    def sibling(self, number: int, source: str, network: nn.Module) -> None:
        """Add a smaller network that the user named."""
        served = Served(_runtimes(), self.scorer)
        path = self.folder / f"sibling-{number}.onnx"
        served.add_float("sibling", network.eval(), path, self.data)
        for kind in served.paths:
            self.add_file(served, kind, source)

    def timed(self) -> dict[int, list[list[float]]]:
        """Return the seconds of every call of every alternative, in turn, by batch size."""
        return {
            size: time_in_turn(
                [entry.call(size) for entry in self.entries], REPEATS, max_seconds=SECONDS
            )
            for size in self.batch_sizes
        }


def smaller(data: DataSet, share: float) -> tuple[DataSet, tuple[int, int]]:
    """Return the same examples, made into inputs of fewer pixels, and their height and width.

    Raises:
        ModelError: Images are cropped but not resized, so that a share of them is another part.
    """
    how, (inputs, _) = data.pool.preprocess, next(iter(data.batches(1)))
    if how.size is None and how.crop is not None:
        raise ModelError("images are cropped and not resized (data.preprocess.size)")

    def scaled(side: Any) -> Any:
        if isinstance(side, tuple):
            return tuple(max(1, round(each * share)) for each in side)
        return None if side is None else max(1, round(side * share))

    size = tuple(inputs.shape[-2:]) if how.size is None else how.size
    pool = Pool(
        data.pool.source, data.pool.examples, data.pool.class_names,
        replace(how, size=scaled(size), crop=scaled(how.crop)),
    )  # fmt: skip
    made = DataSet(pool, data.indices)
    first, _ = next(iter(made.batches(1)))
    return made, (int(first.shape[-2]), int(first.shape[-1]))


def _runtimes() -> list[str]:
    return ["onnxruntime"] + ["openvino"] * installed("openvino")
