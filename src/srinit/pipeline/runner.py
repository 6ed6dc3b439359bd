"""The runner: takes the steps of the table, each once, in whatever run or round it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from srinit import artifact as artifacts
from srinit.config import Config
from srinit.custody.changing import Change
from srinit.observer import Observer, Silent
from srinit.pipeline.network import base_of, load_network
from srinit.pipeline.resources import Resources
from srinit.runs import Artifact, RunFiles, processes
from srinit.runs.artifacts import OUTCOME
from srinit.sources import DataSet
from srinit.steps.table import TABLE, Step
from srinit.store import RunFolder

T = TypeVar("T")
VIEWS: dict[str, Callable[[Runner], Any]] = {}
"""What a round begins with: values that are put together from files, and kept in none."""
OF_ROUND = ("before", "round_plan", "outcome")  # views that speak of rounds


def view(function: Callable[[Runner], T]) -> Callable[[Runner], T]:
    """Let steps ask for what a function returns, by its name."""
    VIEWS[function.__name__] = function
    return function


class Runner:
    """Reads what is there, and makes what is not.

    Args:
        config: The config of the run, with what later verbs changed.
        folder: The run folder.
        observer: Told what happens.
        rank: Number of this process among those that share the run; 0 keeps its folder.
        origin: The folder of rank 0, where `folder` is a copy.
        resources: What the config names, where it is loaded already.
        round_number: Of the round at work; by default the one that was delivered.
        base: Folder inside the run for what is not of a round; a round that looks at its own
            network keeps it apart.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        observer: Observer | None = None,
        *,
        rank: int = 0,
        origin: Path | None = None,
        resources: Resources | None = None,
        round_number: int | None = None,
        base: str = "",
    ) -> None:
        from srinit.pipeline import parts  # noqa: F401  (fills the table of steps; imports this file)

        self.config, self.folder, self.rank, self.origin = config, folder, rank, origin or Path()
        self.observer: Observer = observer or Silent()
        self.resources = resources or Resources(config, self.observer)
        self.change: Change | None = None  # what the verb changes of the run, not done yet
        self._base, self._values = base, dict[str, Any]()
        self._is_at_work = False  # in one of the rounds, while they are carried out
        if round_number is None:
            outcome = RunFiles(folder).get(OUTCOME)
            round_number = 1 if outcome is None else outcome.delivered
        self.enter(round_number)

    @property
    def path(self) -> Path:
        """Where the run folder is."""
        return self.folder.path

    def enter(self, number: int) -> None:
        """Go to another round; what was read before is read again."""
        self.files = RunFiles(self.folder, number, networks=self, base=self._base)
        self._values.clear()

    def in_round(self, number: int) -> Runner:
        """Return a runner of the same table under the prefix of another round."""
        return self._like(self.resources, number, self._base)

    def looking_at(self, model: nn.Module) -> Runner:
        """Return a runner that looks at the network of this round, and keeps what it sees there."""
        base = self.files.round_folder.relative_to(self.path).as_posix()
        return self._like(self.resources.of_network(model), self.files.round_number, base)

    def _like(self, resources: Resources, number: int, base: str) -> Runner:
        made = Runner(
            self.config,
            self.folder,
            self.observer,
            rank=self.rank,
            origin=self.origin,
            resources=resources,
            round_number=number,
            base=base,
        )
        made._is_at_work = True
        return made

    def get(self, artifact: Artifact[T]) -> T:
        """Return what a file of the run holds; the step that makes it is taken if it must be."""
        value: T = self.value(artifact.name)
        return value

    def value(self, name: str) -> Any:
        """Return what an argument of a step stands for."""
        if name == "files":
            return self.files
        if self._waits_for_rounds(name):
            VIEWS["carried_out"](self)
        if name in VIEWS:
            return VIEWS[name](self)
        if name not in TABLE.by_output:
            return self.resources.value(name)
        if name not in self._values:
            self._take(TABLE.by_output[name], name)
        return self._values[name]

    def _waits_for_rounds(self, name: str) -> bool:
        """Return whether something of a round is asked for before the rounds were carried out."""
        if self._is_at_work or not self.config.prune.in_rounds:
            return False
        made = TABLE.by_output[name].outputs if name in TABLE.by_output else ()
        is_of_round = name in OF_ROUND or any(each.in_round for each in made if each.name == name)
        return is_of_round and not self.files.has(OUTCOME)

    def _take(self, step: Step, name: str) -> None:
        wanted = next(artifact for artifact in step.outputs if artifact.name == name)
        if not self._is_done(step):
            arguments = {need: self.value(need) for need in step.needs}
            if step.together(self.config):
                self._make(step, arguments)
            else:
                processes.on_rank_zero(self, partial(self._make, step, arguments))
        self._values[name] = self.files.get(wanted)

    def _make(self, step: Step, arguments: dict[str, Any], _: Any = None) -> None:
        """Compute and write what a step leaves, unless it is there by now."""
        if self._is_done(step):
            return
        self._keep(step, step.call(**arguments), arguments)
        self._remember(step)

    def _keep(self, step: Step, made: Any, arguments: dict[str, Any]) -> None:
        """Write what a step returned, and its entry in the log before the last of its files."""
        values = made if len(step.outputs) > 1 else (made,)
        *first, last = zip(step.outputs, values, strict=True)
        for artifact, value in first:
            self._write(artifact, value)
        if values[-1] is not None:
            self._tell(step, values, arguments)
        self._write(*last)

    def _is_done(self, step: Step) -> bool:
        if step.always and not self.folder.was_sealed:
            return step.name in self._values
        return step.name in self._values or self.files.has(step.outputs[-1])

    def _remember(self, step: Step) -> None:
        """Note what a step found to be nothing, or makes anew each time: no file tells of it."""
        for artifact in step.outputs:
            if step.always or not self.files.has(artifact):
                self._values[artifact.name] = self.files.get(artifact)

    def _write(self, artifact: Artifact[Any], value: Any) -> None:
        if value is not None:
            self.files.write(artifact, value)

    def _tell(self, step: Step, values: tuple[Any, ...], arguments: dict[str, Any]) -> None:
        """Write the entry of the audit log: what was decided, why, and from what."""
        if step.decision is None:
            return
        inputs: dict[str, Any] = {}
        for name, value in arguments.items():
            if name in TABLE.by_output:
                outputs = TABLE.by_output[name].outputs
                inputs |= self.files.digests(next(a for a in outputs if a.name == name))
            elif isinstance(value, DataSet):
                inputs[name] = value.data_hash
        self.folder.audit(
            step.verb,
            step.decision(*values),
            reason=step.reason(*values) if step.reason else "",
            inputs=inputs,
        )

    @contextmanager
    def without(self, artifact: Artifact[Any]) -> Iterator[Callable[[], None]]:
        """Yield a function that makes a file anew beside the one that is there, written later.

        What it needs is taken or read. The value is written when the block ends well.
        """
        step = TABLE.by_output[artifact.name]
        made: list[tuple[Any, dict[str, Any]]] = []

        def make() -> None:
            arguments = {need: self.value(need) for need in step.needs}
            made.append((step.call(**arguments), arguments))

        yield make
        for value, arguments in made:
            self._keep(step, value, arguments)
            self._values[artifact.name] = self.files.get(artifact)

    def load(self, folder: Path) -> nn.Module:
        """Return a saved network of this run, on the device; the run's config names its code."""
        base = partial(load_network, self.config, bare=True)
        return artifacts.load_pruned(folder, base=base).to(self.resources.device).eval()

    def save(self, folder: Path, model: nn.Module) -> None:
        """Save a pruned network of this run: safetensors and recipe."""
        artifacts.save_pruned(
            folder,
            model,
            self.value("round_plan").untimed()[0],
            base=base_of(self.config),
            preprocessing=self.config.data.preprocess.model_dump(mode="json"),
            metadata={
                "class_names": list(self.resources.class_names),
                "seed": self.config.seed,
            },
        )
