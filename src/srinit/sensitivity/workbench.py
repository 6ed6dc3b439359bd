"""Measures batches: the baseline once, then every unit with its draws, from the middle on."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.errors import ModelError, ReinitError, ResourceError
from srinit.evaluate import Scorer
from srinit.records import record
from srinit.reinit import Call, Redraw, RuleScheme, Scheme, find_scheme
from srinit.rng import isolated_rng, seed_for
from srinit.sensitivity.draws import Layout, groups_of
from srinit.sensitivity.outcomes import Rows, classes_of, rows_of
from srinit.sensitivity.replay import Replayer
from srinit.sensitivity.working import (
    Precision,
    cheap_dtype,
    cheaper_copy,
    inputs_for,
    is_close,
    shared_copy,
)

REFERENCE_ROWS = 32  # examples on which `matched` matches, at most
REFERENCE_VALUES = 2048  # values of one channel that suffice for its mean and spread
KEPT_BYTES = 256 << 20  # copies of units kept between batches
MOST_WORKERS = 4  # units measured at the same time on a CPU
MAX_FLIPS = 0.02  # share of examples that cheaper arithmetic may score otherwise


@record
class Target:
    """One unit to measure."""

    name: str
    parts: tuple[str, ...] = ()  # submodules to draw, by names in the model; empty: the unit
    removable: bool = True


@record
class Perturbation:
    """How units are drawn again."""

    scheme: str | Scheme
    scale: float = 1.0

    @property
    def name(self) -> str:
        """Name of the scheme, for records."""
        if isinstance(self.scheme, str):
            return self.scheme
        return str(getattr(self.scheme, "__name__", type(self.scheme).__name__))


@record
class Measured:
    """One batch: the baseline's outcomes, and each unit's."""

    classes: tuple[int, ...] | None
    baseline: Rows
    units: dict[str, tuple[Rows, ...]]  # one entry a whole-set draw; one, else


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
_Done = tuple[str, list[list[Rows]]]
_Crew = Callable[[Callable[[_Item], _Done], Mapping[str, "Sequence[_Job]"]], list[_Done]]


class Workbench:
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
        self._source = model
        self._scorer = scorer
        self._seed = seed
        self._device = modules.device_of(model) if device is None else device
        self._chunk: int | None = None
        self._redraws: dict[tuple[str, Any], Redraw] = {}
        self._lock = threading.Lock()
        with isolated_rng(seed_for(seed, "workbench")):
            self._prepare(batch, precision)

    def _prepare(self, batch: tuple[Any, Any], precision: Precision) -> None:
        inputs, _ = batch
        plain = shared_copy(self._source)
        dtype = cheap_dtype(self._source, precision)
        names = self._existing()
        size = modules.batch_size(inputs)
        few = self._few(inputs, min(2, size)), self._few(inputs, min(3, size))
        exact = Replayer(plain, names)
        self._layouts = _layouts(exact, few[0], few[1])
        self.dtype: torch.dtype | None = None
        self._replayer = exact
        if dtype is not None:
            cheap = cheaper_copy(self._source, dtype, few[1], names)
            if self._agrees(plain, cheap, batch):
                self.dtype = dtype
                self._replayer = Replayer(cheap, names)
                with torch.no_grad():
                    self._replayer.learn(inputs_for(cheap, few[1], self._device))
        for name in names:
            if name not in self._replayer.known:
                self.problems[name] = "the unit is never called by the model"
        self._reference = modules.tree_map(torch.clone, _rows(inputs, 0, min(size, REFERENCE_ROWS)))

    def _existing(self) -> list[str]:
        known = {name for name, _ in self._source.named_modules(remove_duplicate=False)}
        for name in self.targets:
            if name not in known:
                self.problems[name] = "the model has no submodule of this name"
        return [name for name in self.targets if name in known]

    def _few(self, inputs: Any, count: int) -> Any:
        return modules.to_device(_rows(inputs, 0, count), self._device)

    def _agrees(self, plain: nn.Module, cheap: nn.Module, batch: tuple[Any, Any]) -> bool:
        """Return whether cheaper arithmetic leaves nearly every example's score as it is."""
        inputs, target = batch
        with torch.inference_mode():
            try:
                low = modules.call(cheap, inputs_for(cheap, inputs, self._device))
            except RuntimeError:
                return False  # the model mixes number formats
            full = modules.call(plain, modules.to_device(inputs, self._device))
        one, other = rows_of(full, target, self._scorer), rows_of(low, target, self._scorer)
        changed = sum(abs(a - b) for a, b in zip(one.scores, other.scores, strict=True))
        return changed <= max(MAX_FLIPS * len(one.scores), 1) and one.nonfinite == other.nonfinite

    def check(self, perturbation: Perturbation) -> dict[str, str]:
        """Return why units cannot be drawn with this perturbation, by unit."""
        problems = {}
        for name in self.targets:
            if name in self.problems:
                problems[name] = self.problems[name]
                continue
            try:
                self._redraw(name, perturbation).draw(0)
            except ReinitError as error:
                problems[name] = str(error)
        return problems

    def _redraw(self, name: str, perturbation: Perturbation) -> Redraw:
        scheme = find_scheme(perturbation.scheme)
        key = (name, (id(scheme), perturbation.scale))
        found = self._redraws.get(key)
        if found is None:
            whole = isinstance(scheme, RuleScheme) and scheme.whole_block
            parts = () if whole else _relative(self.targets[name])
            matched = isinstance(scheme, RuleScheme) and scheme.matched
            found = Redraw(
                self._source.get_submodule(name),
                scheme=scheme,
                scale=perturbation.scale,
                parts=parts,
                reference=self._call_of(name) if matched else None,
                prepare=self._convert,
            )
            with self._lock:
                kept = sum(_bytes(each.module) for each in self._redraws.values())
                if kept + _bytes(found.module) > KEPT_BYTES:
                    self._redraws.clear()
                self._redraws[key] = found
        return found

    def _convert(self, unit: nn.Module) -> nn.Module:
        unit = unit.eval().requires_grad_(False)
        if self.dtype is None:
            return unit
        unit = unit.to(self.dtype)
        if any(isinstance(module, nn.Conv2d) for module in unit.modules()):
            unit = unit.to(memory_format=torch.channels_last)
        return unit

    def _call_of(self, name: str) -> Call:
        """Return the arguments with which the model calls a unit on the reference examples.

        There are fewer examples where one has many positions (pixels, tokens).
        """
        found: list[Call] = []

        def spy(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            found.append(Call(args, kwargs))
            return forward(*args, **kwargs)

        rows = modules.batch_size(self._reference)
        shapes = self._replayer.shapes(name)
        if shapes is not None and shapes.outputs and shapes.outputs[0] is not None:
            values = [
                math.prod(shapes.outputs[0]) / (shapes.size * c) for c in self._channels(name)
            ]
            rows = min(rows, max(math.ceil(REFERENCE_VALUES / min(values, default=1)), 2))
        few = _rows(self._reference, 0, rows)
        inputs = inputs_for(self._replayer.model, few, self._device)
        with torch.inference_mode():
            self._replayer.whole(name, inputs, spy)
        return found[0]

    def _channels(self, name: str) -> list[int]:
        """Return the numbers of output channels of a unit's layers."""
        parameters = self._source.get_submodule(name).parameters()
        return [parameter.shape[0] for parameter in parameters if parameter.ndim > 1]

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
        return self._patiently(batch, number, jobs, perturbation)

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
        return self._patiently(batch, number, jobs, perturbation)

    def _patiently(
        self,
        batch: tuple[Any, Any],
        number: int,
        jobs: Mapping[str, Sequence[_Job]],
        perturbation: Perturbation,
    ) -> Measured:
        """Measure with fewer examples at a time where memory does not suffice."""
        size = modules.batch_size(batch[0])
        while True:
            try:
                return self._measure(batch, number, jobs, perturbation)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                chunk = self._chunk or size
                if chunk <= 1:
                    raise ResourceError(
                        "memory does not suffice for one example; use a smaller model or a "
                        "device with more memory."
                    ) from error
                self._chunk = max(chunk // 2, 1)
            self._replayer.forget()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _measure(
        self,
        batch: tuple[Any, Any],
        number: int,
        jobs: Mapping[str, Sequence[_Job]],
        perturbation: Perturbation,
    ) -> Measured:
        inputs, target = batch
        size = modules.batch_size(inputs)
        chunk = min(self._chunk or size, size)
        baseline: list[Rows] = []
        found: dict[str, list[list[Rows]]] = {n: [[] for _ in js] for n, js in jobs.items()}
        with isolated_rng(seed_for(self._seed, "batch", number)), self._crew() as crew:
            for start in range(0, size, chunk):
                stop = min(start + chunk, size)
                some = _rows(inputs, start, stop)
                ready = inputs_for(self._replayer.model, some, self._device)
                goal = modules.to_device(_rows(target, start, stop, size), self._device)
                with torch.inference_mode():
                    output, same = self._replayer.record(ready)
                    baseline.append(rows_of(output, goal, self._scorer))
                part = _Part(ready, goal, start, stop, same)
                done = crew(partial(self._jobs, part, perturbation), jobs)
                for name, lists in done:
                    for kept, rows in zip(found[name], lists, strict=True):
                        kept += rows
            self._replayer.forget()
        return Measured(
            classes=classes_of(target),
            baseline=Rows.joined(baseline),
            units={name: tuple(map(Rows.joined, lists)) for name, lists in found.items()},
        )

    @contextmanager
    def _crew(self) -> Iterator[_Crew]:
        """Yield what does the units' jobs: on a CPU several at a time, with a thread each.

        Layers are too small for all cores to share one well, but units are many.
        """
        threads = torch.get_num_threads()
        workers = min(threads, MOST_WORKERS) if torch.device(self._device).type == "cpu" else 1
        if workers == 1:
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
            redraw = self._redraw(name, perturbation)
            return name, [list(self._unit(name, part, redraw, job)) for job in jobs]

    def _unit(self, name: str, part: _Part, redraw: Redraw, job: _Job) -> Iterator[Rows]:
        size = part.stop - part.start
        groups = groups_of(part.start, part.stop, job.per_draw)
        layout = self._layouts.get(name) if part.same else None
        if layout is not None:
            stand = layout.grouped(groups, size, lambda draw: redraw.draw(job.seed(draw)))
            output = self._replayer.replay(name, part.inputs, stand)
            yield rows_of(output, part.target, self._scorer)
            return
        for group in groups:
            module = redraw.draw(job.seed(group.draw))
            inputs = _rows(part.inputs, group.start, group.stop, size)
            output = self._replayer.whole(name, inputs, _called(module))
            yield rows_of(output, _rows(part.target, group.start, group.stop, size), self._scorer)

    @property
    def grouped(self) -> frozenset[str]:
        """Units whose draws share one batch, and that are replayed from the middle."""
        return frozenset(self._layouts)


def _layouts(replayer: Replayer, two: Any, three: Any) -> dict[str, Layout]:
    """Return the layout of every unit that splits into groups and replays exactly."""
    replayer.learn(two)
    before = {name: replayer.shapes(name) for name in replayer.known}
    with torch.no_grad():
        wanted = modules.logits_of(replayer.learn(three))
        output, same = replayer.record(three)
    size = modules.batch_size(three)
    layouts: dict[str, Layout] = {}
    if not same or not is_close(modules.logits_of(output), wanted):
        return layouts
    groups = groups_of(0, size, 2)
    for name in replayer.known:
        one, other = before.get(name), replayer.shapes(name)
        if one is None or other is None:
            continue
        try:
            layout = Layout.between(one, other)
            with torch.no_grad():
                again = replayer.replay(name, three, layout.grouped(groups, size, None))
            if is_close(modules.logits_of(again), wanted):
                layouts[name] = layout
        except (ValueError, RuntimeError, TypeError, IndexError, KeyError, ModelError):
            continue  # measured the plain way
    replayer.forget()
    return layouts


def _called(module: nn.Module) -> Callable[..., Any]:
    return lambda forward, *args, **kwargs: module(*args, **kwargs)


def _relative(target: Target) -> tuple[str, ...]:
    prefix = f"{target.name}."
    return tuple(part.removeprefix(prefix) for part in target.parts if part.startswith(prefix))


def _rows(tree: Any, start: int, stop: int, size: int | None = None) -> Any:
    """Return examples `start` to `stop` of every tensor that has the batch first."""
    whole = modules.batch_size(tree) if size is None else size
    if start == 0 and stop == whole:
        return tree

    def some(tensor: Tensor) -> Tensor:
        return tensor[start:stop] if tensor.ndim and tensor.shape[0] == whole else tensor

    return modules.tree_map(some, tree)


def _bytes(module: nn.Module) -> int:
    tensors = (*module.parameters(), *module.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return "not enough memory" in str(error) or "out of memory" in str(error).lower()


@contextmanager
def eager() -> Iterator[None]:
    """Run compiled modules as they were written, for a while."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
