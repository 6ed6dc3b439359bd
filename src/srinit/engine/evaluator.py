"""Measures batches: the baseline once, then every unit with its draws, from the middle on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from srinit import modules
from srinit.engine.copies import Precision, inputs_for
from srinit.engine.costs import Costs, costs_of
from srinit.engine.finite import FiniteCheck
from srinit.engine.groups import groups_of
from srinit.engine.outcomes import BatchOutcomes, classes_of, score_batch
from srinit.engine.perturb import Perturbation, Perturber, Target
from srinit.engine.prepared import prepare_model
from srinit.engine.replay import Replayer
from srinit.evaluate import BatchSplitter, Scorer
from srinit.records import record
from srinit.rng import isolated_rng, seed_for

MOST_WORKERS = 4  # units measured at the same time on a CPU


@record
class Measured:
    """One batch: the baseline's outcomes, and each unit's."""

    classes: tuple[int, ...] | None
    baseline: BatchOutcomes
    units: dict[str, tuple[BatchOutcomes, ...]]  # one entry a whole-set draw; one, else


@dataclass(frozen=True)
class _Job:
    """One way through a batch: how many examples share a draw, and the seed of each draw."""

    per_draw: int
    seed: Callable[[int], int]


@dataclass(frozen=True)
class _Part:
    """Some examples of a batch, on their device, and whether replays fit them."""

    inputs: Any
    target: Any
    start: int
    stop: int
    same: bool


_Item = tuple[str, "Sequence[_Job]"]
_Done = tuple[str, list[list[BatchOutcomes]]]
_Crew = Callable[[Callable[[_Item], _Done], Mapping[str, "Sequence[_Job]"]], list[_Done]]


class PerturbationEvaluator:
    """A model made ready for measuring: an own copy, cheaper where that pays, with replays.

    The caller's model is only read. Whatever does not split into groups of examples, or cannot
    be replayed, is found out by comparing with a plain forward, and is measured the plain way.

    Args:
        model: Any module.
        targets: The units.
        batch: Some examples, to prepare with; the first ones are also what `matched` matches on.
        scorer: Per-example score in [0, 1].
        device: Where inputs go.
        seed: Seed of the run.
        precision: "auto": bfloat16 where the hardware gains from it and scores agree.
    """

    def __init__(
        self,
        model: nn.Module,
        targets: Sequence[Target],
        batch: tuple[Any, Any],
        *,
        scorer: Scorer,
        device: torch.device | str | None = None,
        seed: int = 0,
        precision: Precision = "auto",
    ) -> None:
        self.targets = {target.name: target for target in targets}
        self.problems: dict[str, str] = {}
        self._scorer = scorer
        self._seed = seed
        self._device = modules.device_of(model) if device is None else device
        self._parts = BatchSplitter(self._device)
        names = self._existing(model)
        with isolated_rng(seed_for(seed, "workbench")):
            self._prepared = prepare_model(
                model, names, batch, scorer=scorer, device=self._device, precision=precision
            )
            self._perturber = Perturber(self.targets, self._prepared, batch[0], self._device)
        for name in names:
            if name not in self._replayer.known:
                self.problems[name] = "the unit is never called by the model"

    @property
    def _replayer(self) -> Replayer:
        return self._prepared.replayer

    @property
    def dtype(self) -> torch.dtype | None:
        """Number format of a copy that is cheaper to run; None: the caller's tensors are used."""
        return self._prepared.dtype

    def _existing(self, model: nn.Module) -> list[str]:
        known = {name for name, _ in model.named_modules(remove_duplicate=False)}
        for name in self.targets:
            if name not in known:
                self.problems[name] = "the model has no submodule of this name"
        return [name for name in self.targets if name in known]

    def check(
        self, perturbation: Perturbation, names: Sequence[str] | None = None
    ) -> dict[str, str]:
        """Return why units, all or some, cannot be drawn with this perturbation, by unit."""
        some = tuple(self.targets) if names is None else tuple(names)
        self._perturber.prepare(perturbation, some)
        found = {
            name: self.problems.get(name) or self._perturber.problem(name, perturbation)
            for name in some
        }
        return {name: problem for name, problem in found.items() if problem}

    def costs(self, name: str, perturbation: Perturbation) -> Costs:
        """Return what a draw of a unit and an example cost here."""
        self._perturber.prepare(perturbation, [name])
        batched = self._perturber.batched(name, perturbation)
        return costs_of(self._device, self.dtype, together=batched is not None and batched.fits)

    def measure(
        self,
        batch: tuple[Any, Any],
        number: int,
        active: Mapping[str, int],
        perturbation: Perturbation,
        *,
        purpose: str = "batch",
    ) -> Measured:
        """Return the outcomes of one batch.

        Args:
            batch: Inputs and target.
            number: Number of the batch; the seeds of the draws derive from it.
            active: Units to measure, with the number of examples that share a draw.
            perturbation: How to draw.
            purpose: What else the seeds derive from.

        Raises:
            ResourceError: Memory does not even suffice for one example.
        """

        def seeds(name: str, draw: int) -> int:
            return seed_for(self._seed, "draw", name, purpose, number, draw)

        jobs = {name: [_Job(per_draw, partial(seeds, name))] for name, per_draw in active.items()}
        return self._fitting(batch, number, jobs, perturbation)

    def measure_whole(
        self,
        batch: tuple[Any, Any],
        number: int,
        names: Sequence[str],
        perturbation: Perturbation,
        draws: int,
    ) -> Measured:
        """Return the outcomes of one batch under draws that are the same for every batch."""
        size = modules.batch_size(batch[0])

        def seeds(name: str, draw: int, _: int) -> int:
            return seed_for(self._seed, "draw", name, "set", draw)

        jobs = {
            name: [_Job(size, partial(seeds, name, draw)) for draw in range(draws)]
            for name in names
        }
        return self._fitting(batch, number, jobs, perturbation)

    def _fitting(
        self,
        batch: tuple[Any, Any],
        number: int,
        jobs: Mapping[str, Sequence[_Job]],
        perturbation: Perturbation,
    ) -> Measured:
        """Measure with fewer examples at a time where memory does not suffice."""
        attempt = partial(self._measure, batch, number, jobs, perturbation)
        size = modules.batch_size(batch)
        return self._parts.until_it_fits(attempt, size, again=self._replayer.forget)

    def _measure(
        self,
        batch: tuple[Any, Any],
        number: int,
        jobs: Mapping[str, Sequence[_Job]],
        perturbation: Perturbation,
    ) -> Measured:
        self._perturber.prepare(perturbation, tuple(jobs))
        baseline: list[BatchOutcomes] = []
        found: dict[str, list[list[BatchOutcomes]]] = {
            n: [[] for _ in js] for n, js in jobs.items()
        }
        with isolated_rng(seed_for(self._seed, "batch", number)), self._crew(len(jobs)) as crew:
            stop = 0
            for some, wanted in self._parts.split(batch):
                start, stop = stop, stop + modules.batch_size(some)
                ready = inputs_for(self._replayer.model, some, self._device)
                goal = modules.to_device(wanted, self._device)
                with torch.inference_mode():
                    output, same = self._replayer.record(ready)
                    baseline.append(score_batch(output, goal, self._scorer))
                part = _Part(ready, goal, start, stop, same)
                done = crew(partial(self._jobs, part, perturbation), jobs)
                for name, lists in done:
                    for kept, rows in zip(found[name], lists, strict=True):
                        kept += rows
            self._replayer.forget()
        return Measured(
            classes=classes_of(batch[1]),
            baseline=BatchOutcomes.joined(baseline),
            units={name: tuple(map(BatchOutcomes.joined, lists)) for name, lists in found.items()},
        )

    @contextmanager
    def _crew(self, units: int) -> Iterator[_Crew]:
        """Yield what does the units' jobs: on a CPU several at a time, with a thread each.

        Layers are too small for all cores to share one well, but units are many. The last ones
        that a scan measures have all cores nevertheless.
        """
        threads = torch.get_num_threads()
        on_cpu = torch.device(self._device).type == "cpu"
        workers = min(threads, MOST_WORKERS, units) if on_cpu else 1
        if workers <= 1:
            yield lambda function, jobs: list(map(function, jobs.items()))
            return
        with ThreadPoolExecutor(
            workers, initializer=torch.set_num_threads, initargs=(threads // workers,)
        ) as pool:
            try:
                yield lambda function, jobs: list(pool.map(function, jobs.items()))
            finally:
                torch.set_num_threads(threads)

    def _jobs(self, part: _Part, perturbation: Perturbation, item: _Item) -> _Done:
        """Return the outcomes of one unit in one part of a batch, for each of its jobs."""
        name, jobs = item
        with torch.inference_mode():
            return name, [list(self._unit(name, part, perturbation, job)) for job in jobs]

    def _unit(
        self, name: str, part: _Part, perturbation: Perturbation, job: _Job
    ) -> Iterator[BatchOutcomes]:
        size = part.stop - part.start
        groups = groups_of(part.start, part.stop, job.per_draw)
        layout = self._prepared.layouts.get(name) if part.same else None
        if layout is None:
            reinitializer = self._perturber.reinitializer(name, perturbation)
            for group in groups:
                module = reinitializer.draw(job.seed(group.draw))
                inputs = modules.rows_between(part.inputs, group.start, group.stop, size)
                check = FiniteCheck(group.stop - group.start, _called(module))
                output = self._replayer.whole(name, inputs, check)
                target = modules.rows_between(part.target, group.start, group.stop, size)
                yield score_batch(output, target, self._scorer, check.finite_B)
            return
        batched = self._perturber.batched(name, perturbation)
        if batched is not None and batched.fits:
            replacement = batched.replacement(groups, size, job.seed, layout)
        else:
            reinitializer = self._perturber.reinitializer(name, perturbation)
            replacement = layout.grouped(
                groups, size, lambda draw: reinitializer.draw(job.seed(draw))
            )
        check = FiniteCheck(size, replacement, layout.outputs)
        output = self._replayer.replay(name, part.inputs, check)
        yield score_batch(output, part.target, self._scorer, check.finite_B)

    @property
    def notes(self) -> dict[str, str]:
        """Why units are not replayed, of those whose calls cannot be made a second time."""
        return self._prepared.notes

    @property
    def grouped(self) -> frozenset[str]:
        """Units whose draws share one batch, and that are replayed from the middle."""
        return frozenset(self._prepared.layouts)


def _called(module: nn.Module) -> Callable[..., Any]:
    return lambda forward, *args, **kwargs: module(*args, **kwargs)


@contextmanager
def eager() -> Iterator[None]:
    """Run compiled modules as they were written, for a while."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
