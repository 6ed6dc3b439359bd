"""A network without each of several sets of units, side by side, scored next to the untouched one.

Every network is scored as it was cut, and with what may be done after the cut; which of these
counts is decided by whose answers are nearer to the reference's, and labels are not read for it.

What is the same is not computed again: one forward of the reference is recorded, and every other
network runs from the last unit on before which nothing differs (`sensitivity/replay.py`). The
arithmetic is the cheap one of the scan, where scores of the first batch agree.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from srinit import modules
from srinit.compensation.answers import Floats, Measure, divergence
from srinit.compensation.variants import Variant
from srinit.engine import (
    Precision,
    Replayer,
    agrees,
    cheap_dtypes,
    inputs_for,
    is_close,
    lighter_copy,
    own_copy,
    shared_copy,
)
from srinit.errors import ModelError, SurgeryError, is_out_of_memory
from srinit.evaluate import Outcomes, Scorer
from srinit.evaluate.loop import Part, joined, outcome_of
from srinit.modules import rows_between
from srinit.rng import isolated_rng, seed_for
from srinit.stats.looks import Looked, Stop
from srinit.units.bypass import RewriteCache, bypassed, site_of
from srinit.units.records import Unit

# B batch

TRIED = 2  # examples on which a replay is compared with a plain forward
APART = 0.05  # mean difference of two distances, in [-1, 1], that is meant to be seen
SURE = 0.99  # that what is given up is farther
NOTHING = "nothing"

Batch = tuple[Any, Any]


@dataclass
class _Variant:
    """What was done after a cut, and how it answers."""

    tensors: list[tuple[Tensor, Tensor]]  # of the copy, and what they become
    changed: frozenset[str] = frozenset()  # the modules that hold them
    start: str = ""  # where its replay begins; empty: it is run as a whole
    parts: list[Part] = field(default_factory=list)
    distances: list[Floats] = field(default_factory=list)  # from the reference's answers
    cost: Looked | None = None  # of its scores, where one looks before the end
    apart: Looked | None = None  # by how much "nothing" is farther from the reference
    is_out: bool = False  # surely farther than another: not run any more

    @property
    def distance(self) -> float:
        """Mean distance from the reference's answers; infinite where one is not finite."""
        found = np.concatenate(self.distances) if self.distances else np.array([math.inf])
        return float(found.mean()) if bool(np.isfinite(found).all()) else math.inf


@dataclass
class _Network:
    """The network without some units."""

    units: tuple[Unit, ...]
    variants: dict[str, _Variant] = field(default_factory=dict)
    stopped: str = ""  # why it is not run any more

    @property
    def running(self) -> dict[str, _Variant]:
        """What was done after the cut and is not surely farther than another."""
        return {name: each for name, each in self.variants.items() if not each.is_out}

    @property
    def nearest(self) -> str:
        """What comes nearest to the reference; "nothing" unless another is nearer."""
        found = self.running
        after = min(found, key=lambda name: found[name].distance)
        is_behind = NOTHING in found and not found[after].distance < found[NOTHING].distance
        return NOTHING if is_behind else after


@dataclass(frozen=True, slots=True)
class Measured:
    """How the network without one set of units does.

    Where one looks before the end, outcomes are of the first examples, and intervals hold whenever
    one stops.
    """

    cut: Outcomes  # as it was cut
    best: Outcomes  # with that done after the cut which is nearest to the reference
    after: str  # what that is
    distance: float  # of those answers from the reference's; NaN where nothing was compared
    cut_interval: tuple[float, float] | None = None  # of the scores lost; None: looked at once
    best_interval: tuple[float, float] | None = None
    stopped: str = ""  # "precise", "decided": why not all examples were needed


class TrialBench:
    """Networks without some units, measured batch by batch next to a reference.

    The model is only read; all happens on one copy.

    Args:
        model: The unpruned network.
        gone: Units that the reference lacks, and all others too.
        sets: Units that are missing besides, one entry a network.
        batch: Some examples, to prepare with.
        scorer: Score per example in [0, 1].
        precision: "auto": bfloat16 where the hardware gains from it and scores agree.
        variants: For every set what may be done after the cut, by name; by default nothing.
        places: Modules from which a network may be run again, besides those of `sets`.
        measure: How far answers are apart (`compensation.answers`).
        tells_distance: Distances are measured also where there is nothing to choose.

    Raises:
        SurgeryError: A unit cannot be taken out.
    """

    def __init__(
        self,
        model: nn.Module,
        gone: Sequence[Unit],
        sets: Sequence[Sequence[Unit]],
        batch: Batch,
        *,
        scorer: Scorer,
        precision: Precision = "auto",
        variants: Sequence[Mapping[str, Variant]] = (),
        places: Sequence[str] = (),
        measure: Measure = "probabilities",
        tells_distance: bool = False,
    ) -> None:
        self._tells_distance = tells_distance
        self._device = modules.device_of(model)
        self._scorer, self._measure = scorer, measure
        self._rewrites = RewriteCache()
        self._reference = _Network(tuple(gone), variants={NOTHING: _Variant([])})
        self._others = [_Network((*gone, *units)) for units in sets]
        with isolated_rng(seed_for("trials")):
            self._model = _lighter(model, batch, scorer, self._device, precision)
            self._take(variants or [{}] * len(sets))
            for network in (self._reference, *self._others):  # before sites are wrapped
                with self._without(network):
                    pass
            sites = {site_of(unit) for units in sets for unit in units}
            self._replayer = Replayer(self._model, sorted({*sites, *places} - {""}))
            self._try_replays(batch[0], sets)

    def _take(self, variants: Sequence[Mapping[str, Variant]]) -> None:
        """Give the copy tensors of its own wherever a variant changes something."""
        changed = {key for each in variants for variant in each.values() for key in variant}
        own: dict[str, Tensor] = {}
        for key in sorted(changed):
            path, _, name = key.rpartition(".")
            module = self._model.get_submodule(path)
            if name in module._parameters:
                parameter = module._parameters[name]
                assert parameter is not None
                module._parameters[name] = nn.Parameter(parameter.data, requires_grad=False)
            own[key] = getattr(module, name)
        for network, given in zip(self._others, variants, strict=True):
            for title, variant in {NOTHING: {}, **given}.items():
                tensors = [(own[key], _as(value, own[key])) for key, value in variant.items()]
                held_by = frozenset(key.rpartition(".")[0] for key in variant)
                network.variants[title] = _Variant(tensors, held_by)

    @property
    def replayed(self) -> int:
        """How many networks, as they were cut, run from their first missing unit on."""
        return sum(bool(network.variants[NOTHING].start) for network in self._others)

    def _without(self, network: _Network) -> Any:
        return bypassed(self._model, network.units, rewrites=self._rewrites)

    def _ready(self, inputs: object) -> Any:
        return inputs_for(self._model, inputs, self._device)

    def _try_replays(self, inputs: Any, sets: Sequence[Sequence[Unit]]) -> None:
        """Note where each network's replay begins, if it gives what a plain forward does."""
        size = modules.batch_size(inputs)
        ready = self._ready(rows_between(inputs, 0, min(TRIED, size)))
        with torch.no_grad():
            with self._without(self._reference):
                self._replayer.learn(ready)
                same = self._replayer.record(ready)[1]
            for network, units in zip(self._others, sets, strict=True):
                gone = {part for unit in units for part in (site_of(unit), *unit.also)}
                for variant in network.variants.values():
                    with _in_place(variant.tensors):
                        wanted = self._plain(network, ready)
                        start = self._start(gone | variant.changed) if same and units else ""
                        if start and self._agrees(network, start, ready, wanted):
                            variant.start = start
        self._replayer.forget()

    def _start(self, differing: Collection[str]) -> str:
        """Return the last place before all modules that differ; empty where there is none."""

        def is_before(skipped: frozenset[str]) -> bool:
            parts = (name.split(".") for name in differing)
            paths = {".".join(part[:end]) for part in parts for end in range(len(part) + 1)}
            return not paths & skipped

        found = {place: self._replayer.skipped(place) for place in self._replayer.known}
        fit = [place for place, skipped in found.items() if is_before(skipped)]
        return max(fit, key=lambda place: (self._replayer.order(place), place), default="")

    def _plain(self, network: _Network, ready: Any) -> Tensor:
        try:
            with self._without(network):
                return modules.logits_of(modules.call(self._model, ready))
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            names = ", ".join(unit.name for unit in network.units)
            raise SurgeryError(
                f"without {names} the network does not run: {type(error).__name__}: {error}"
            ) from error

    def _agrees(self, network: _Network, start: str, ready: object, wanted: Tensor) -> bool:
        """Return whether a replay gives what a plain forward does."""
        try:
            with self._without(network):
                found = modules.logits_of(self._replayer.replay(start, ready, None))
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, ModelError):
            return False
        return is_close(found, wanted)

    def outcomes(
        self, data: Sequence[Batch], *, stop: Stop | None = None
    ) -> tuple[Outcomes, list[Measured]]:
        """Return the outcomes of the untouched reference, and those of every network.

        Args:
            data: Batches; where one stops before the end their order should be one of chance.
            stop: When a network's cost is known well enough; by default all examples are run.
        """
        reference = self._reference.variants[NOTHING]
        left = sum(modules.batch_size(inputs) for inputs, _ in data)
        with torch.inference_mode():
            for inputs, target in data:
                theirs: Tensor | None = None
                for network, variant, output in self._outputs(inputs):
                    variant.parts.append(outcome_of(output, target, self._scorer))
                    if network is self._reference:
                        theirs = _answer(output) if self._chooses else None
                    elif theirs is not None and (self._tells_distance or len(network.variants) > 1):
                        ours = _answer(output)
                        variant.distances.append(
                            divergence([theirs], [ours], [inputs], self._measure)
                        )
                if stop is not None and len(data) > 1:
                    self._look(stop, left)
                    if all(network.stopped for network in self._others):
                        break
                left -= modules.batch_size(inputs)
        return joined(reference.parts), [_measured(network) for network in self._others]

    def _look(self, stop: Stop, left: int) -> None:
        """See which networks' costs are known well enough, and which variants are surely farther.

        Args:
            stop: When a cost is.
            left: Examples, those that were run last included.
        """
        scores = self._reference.variants[NOTHING].parts[-1].scores
        for network in self._others:
            if network.stopped:
                continue
            nothing = network.variants[NOTHING]
            for variant in network.running.values():
                variant.cost = variant.cost or Looked(stop)
                variant.cost.add(scores - variant.parts[-1].scores, left=left)
                is_other = variant is not nothing and not nothing.is_out
                if is_other and self._measure == "probabilities":
                    variant.apart = variant.apart or Looked(Stop(APART, confidence=SURE))
                    far, near = (np.nan_to_num(v.distances[-1], nan=1) for v in (nothing, variant))
                    variant.apart.add(np.clip(far - near, -1, 1), left=left)
            for variant in network.variants.values():
                side = variant.apart.side if variant.apart is not None else 0
                nothing.is_out = nothing.is_out or side > 0
                variant.is_out = variant.is_out or side < 0
            best = network.variants[network.nearest].cost
            assert best is not None
            network.stopped = best.reason if left > len(scores) else ""

    @property
    def _chooses(self) -> bool:
        is_choice = any(len(network.variants) > 1 for network in self._others)
        return self._tells_distance or is_choice

    def _outputs(self, inputs: object) -> Iterator[tuple[_Network, _Variant, Any]]:
        ready = self._ready(inputs)
        with isolated_rng(seed_for("trials")):
            with self._without(self._reference):
                output, same = self._replayer.record(ready)
            yield self._reference, self._reference.variants[NOTHING], output
            for network in (each for each in self._others if not each.stopped):
                for variant in network.running.values():
                    with self._without(network), _in_place(variant.tensors):
                        if same and variant.start:
                            output = self._replayer.replay(variant.start, ready, None)
                        else:
                            output = modules.call(self._model, ready)
                    yield network, variant, output
            self._replayer.forget()


def _measured(network: _Network) -> Measured:
    """Return a network's outcomes; "nothing" counts unless another is nearer to the reference."""
    after = network.nearest
    nothing, best = network.variants[NOTHING], network.variants[after]
    return Measured(
        cut=joined(nothing.parts),
        best=joined(best.parts),
        after=after,
        distance=best.distance if best.distances else math.nan,
        cut_interval=None if nothing.cost is None else nothing.cost.interval,
        best_interval=None if best.cost is None else best.cost.interval,
        stopped=network.stopped,
    )


@contextmanager
def _in_place(tensors: Sequence[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Let tensors of the copy have other values, for a while."""
    kept = [(tensor, tensor.data) for tensor, _ in tensors]
    try:
        for tensor, value in tensors:
            tensor.data = value
        yield
    finally:
        for tensor, value in kept:
            tensor.data = value


def _as(value: Tensor, like: Tensor) -> Tensor:
    """Return a value in the number format and the layout of the tensor whose place it takes."""
    found = torch.empty_like(like.data)
    return found.copy_(value.detach())


def _answer(output: object) -> Tensor:
    return modules.logits_of(output).float().cpu()


def _lighter(
    model: nn.Module,
    batch: Batch,
    scorer: Scorer,
    device: torch.device,
    precision: Precision,
) -> nn.Module:
    """Return a copy that is cheaper to run where there is one and scores agree."""
    size = modules.batch_size(batch[0])
    own = own_copy(model, modules.to_device(rows_between(batch[0], 0, min(3, size)), device))
    plain = shared_copy(own)
    for dtype in cheap_dtypes(own, precision):
        cheap = lighter_copy(own, dtype)
        if agrees(plain, cheap, batch, scorer, device):
            return cheap
    return plain
