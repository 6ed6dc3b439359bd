"""How the files of a run are read and written: records, arrays, plans, networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from torch import nn

from srinit import artifact, records
from srinit.errors import DataError
from srinit.evaluate import Outcomes
from srinit.evaluate.outcomes import LATER
from srinit.plan import PlanTimes, PrunePlan

if TYPE_CHECKING:
    from srinit.runs.files import RunFiles

T = TypeVar("T")
R = TypeVar("R")
TIMES = "plan_latency.json"


class Kind(Protocol[T]):
    """A way to keep one value in a run folder."""

    def read(self, files: RunFiles, path: Path) -> T:
        """Return the value; hash and schema are checked."""
        ...

    def write(self, files: RunFiles, path: Path, value: T) -> None:
        """Write the value atomically; its file at `path` comes last."""
        ...


@dataclass(frozen=True)
class Artifact(Generic[T]):
    """One row of the table: a file of a run, what it holds, and what people call it."""

    name: str  # the argument by which steps ask for it
    path: str  # in the run folder, or in that of the round
    title: str
    kind: Kind[T]
    in_round: bool = False  # each round of pruning has its own
    beside: tuple[str, ...] = ()  # further files that are written with it, patterns
    logged: bool = True  # MLflow gets it

    @property
    def listed(self) -> tuple[str, ...]:
        """Patterns of the files that lists of a run name: not whole folders, journals, weights."""
        kept = [name for name in self.beside if name.endswith((".csv", ".json"))]
        prefix = "rounds/*/" if self.in_round else ""
        return tuple(prefix + name for name in (self.path, *kept))

    @property
    def patterns(self) -> tuple[str, ...]:
        """Patterns of all its files, relative to the run folder."""
        prefix = "rounds/*/" if self.in_round else ""
        return tuple(prefix + name for name in (self.path, *self.beside))


@dataclass(frozen=True)
class Record(Generic[R]):
    """A record as JSON; `table` makes the CSV beside it."""

    cls: type[R]
    schema: str
    table: Callable[[R], str] | None = None

    def parse(self, content: bytes, where: str) -> R:
        """Return the record that some bytes hold."""
        return records.from_json(self.cls, content, schema=self.schema, where=where)

    def read(self, files: RunFiles, path: Path) -> R:
        """Return the record; hash and schema are checked."""
        return files.folder.read_record(self.cls, path, schema=self.schema)

    def write(self, files: RunFiles, path: Path, value: R) -> None:
        """Write the record, and its table before it."""
        if self.table is not None:
            files.folder.write_text(path.with_suffix(".csv"), self.table(value))
        files.folder.write_record(path, value, schema=self.schema)


@dataclass(frozen=True)
class Arrays:
    """What a network did with every example, as arrays."""

    def read(self, files: RunFiles, path: Path) -> Outcomes:
        """Return the outcomes; the file's hash is checked."""
        return Outcomes(**files.folder.read_npz(path))

    def write(self, files: RunFiles, path: Path, value: Outcomes) -> None:
        """Write the arrays."""
        files.folder.write_npz(path, vars(value))


@dataclass(frozen=True)
class PairedOutcomes:
    """What both networks did with the same examples, in the same order."""

    baseline: Outcomes
    pruned: Outcomes
    ids: npt.NDArray[np.str_]  # content hash of every example

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything as arrays, as `predictions.npz` keeps it."""
        return {
            **{f"baseline_{name}": value for name, value in vars(self.baseline).items()},
            **{f"pruned_{name}": value for name, value in vars(self.pruned).items()},
            "ids": self.ids,
        }

    @classmethod
    def of(cls, arrays: dict[str, npt.NDArray[Any]]) -> PairedOutcomes:
        """Return what `arrays` gave.

        Raises:
            DataError: An array is missing.
        """
        names = [field.name for field in fields(Outcomes)]
        try:
            sides = [
                Outcomes(
                    **{
                        name: arrays[f"{side}_{name}"]
                        for name in names
                        if name not in LATER or f"{side}_{name}" in arrays
                    }
                )
                for side in ("baseline", "pruned")
            ]
            return cls(sides[0], sides[1], arrays["ids"])
        except KeyError as error:
            raise DataError(f"predictions.npz is damaged: it holds no {error}.") from None


@dataclass(frozen=True)
class PairedArrays:
    """The outcomes of two networks, as arrays."""

    def read(self, files: RunFiles, path: Path) -> PairedOutcomes:
        """Return the outcomes; the file's hash is checked."""
        return PairedOutcomes.of(files.folder.read_npz(path))

    def write(self, files: RunFiles, path: Path, value: PairedOutcomes) -> None:
        """Write the arrays."""
        files.folder.write_npz(path, value.arrays())


@dataclass(frozen=True)
class Plan:
    """A plan; what a clock said lies beside it, so that equal plans are equal files."""

    def read(self, files: RunFiles, path: Path) -> PrunePlan:
        """Return the plan with its measured latencies.

        Raises:
            ConfigError: It is no plan.
            IntegrityError: A file is not the one that was written.
        """
        plan = PrunePlan.from_json(files.folder.read_bytes(path), where=str(path))
        beside = path.with_name(TIMES)
        if not files.folder.has(beside):
            return plan
        return plan.timed(Times().read(files, beside))

    def write(self, files: RunFiles, path: Path, value: PrunePlan) -> None:
        """Write the plan and, before it, its measured latencies."""
        bare, times = value.untimed()
        if any(times.latency_ms):
            Times().write(files, path.with_name(TIMES), times)
        files.folder.write_text(path, bare.to_json())


@dataclass(frozen=True)
class Times:
    """What a clock said about a plan."""

    def read(self, files: RunFiles, path: Path) -> PlanTimes:
        """Return the latencies; the file's hash is checked."""
        return PlanTimes.from_json(files.folder.read_bytes(path), where=str(path))

    def write(self, files: RunFiles, path: Path, value: PlanTimes) -> None:
        """Write the latencies."""
        files.folder.write_text(path, value.to_json())


@dataclass(frozen=True)
class Network:
    """A network: safetensors and a recipe, in the folder of `path`, which is the recipe."""

    def read(self, files: RunFiles, path: Path) -> nn.Module:
        """Return the network on the run's device, in evaluation mode."""
        folder = path.parent
        for name in (artifact.RECIPE, artifact.WEIGHTS):
            files.folder.check(folder / name)
        return files.networks.load(folder)

    def write(self, files: RunFiles, path: Path, value: nn.Module) -> None:
        """Write weights and, after them, the recipe."""
        files.folder.refuse_links(path, path.with_name(artifact.WEIGHTS))
        files.networks.save(path.parent, value)
        for name in (artifact.WEIGHTS, artifact.RECIPE):
            files.folder.record(path.parent / name)


@dataclass(frozen=True)
class Page:
    """A file for people, written by whoever makes it; its value is its path."""

    def read(self, files: RunFiles, path: Path) -> str:
        """Return where it is."""
        files.folder.check(path)
        return str(path)

    def write(self, files: RunFiles, path: Path, value: str) -> None:
        """Record the hashes of the folder that it was written into."""
        files.folder.record(path.parent)
