"""The networks of trials: compensated and measured side by side, or cut and trained in turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from srinit import modules
from srinit.compensation.answers import Measure, answers, divergence
from srinit.compensation.variants import Fitted, Fitter, Method, Variant, size_of
from srinit.engine import Precision, eager, faster_copy
from srinit.errors import DataError, is_out_of_memory
from srinit.evaluate import Outcomes, Scorer, evaluate
from srinit.modules import rows_between
from srinit.stats.looks import Stop
from srinit.surgery import remove_with_origins
from srinit.trialbench import NOTHING, Measured, TrialBench
from srinit.units.bypass import site_of
from srinit.units.records import Unit, UnitMap

Recover = Callable[[nn.Module], object]  # trains in place
Batch = tuple[Any, Any]
PART = 32  # examples of which answers are compared at a time
BUDGET = 1 << 30  # bytes of changed weights of networks that are measured side by side


@dataclass(frozen=True)
class Work:
    """What networks are measured with."""

    model: nn.Module
    units: UnitMap | Mapping[str, Unit]
    gone: tuple[str, ...]
    data: Sequence[Batch]
    example_inputs: Any
    scorer: Scorer
    precision: Precision
    method: Method
    fit: Sequence[Any]
    teacher: nn.Module | None
    measure: Measure
    tells_distance: bool = False
    stop: Stop | None = None

    def outcomes(
        self,
        candidates: Sequence[tuple[str, ...]],
        recover: Recover | None,
        tell: Callable[[int], None],
    ) -> tuple[Outcomes, list[Measured]]:
        """Return the outcomes of the reference, and of the network without each candidate."""
        if recover is None:
            try:
                return self._side_by_side(candidates, tell)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
        reference = self._score(self._cut(()))
        others = []
        for number, names in enumerate(candidates, start=1):
            others.append(self._alone(names, recover))
            tell(number)
        return reference, others

    def _side_by_side(
        self, candidates: Sequence[tuple[str, ...]], tell: Callable[[int], None]
    ) -> tuple[Outcomes, list[Measured]]:
        """Measure networks next to each other, as many as their changed weights leave room for."""
        if not self.data:
            raise DataError("the data holds no example; no removal can be tried on it.")
        found: list[Measured] = []
        waiting: list[Mapping[str, Variant]] = []
        reference, size = None, 0
        for number, names in enumerate(candidates, start=1):
            waiting.append(self._fitted(names).variants)
            size += size_of(waiting[-1])
            if size > BUDGET or number == len(candidates):
                theirs, measured = self._bench(candidates[len(found) : number], waiting)
                if reference is None or theirs.num_examples > reference.num_examples:
                    reference = theirs
                found += measured
                waiting, size = [], 0
            tell(number)
        assert reference is not None
        return reference, found

    def _bench(
        self, candidates: Sequence[tuple[str, ...]], variants: Sequence[Mapping[str, Variant]]
    ) -> tuple[Outcomes, list[Measured]]:
        with eager():
            bench = TrialBench(
                self.model,
                [self.units[name] for name in self.gone],
                [[self.units[name] for name in names] for names in candidates],
                self.data[0],
                scorer=self.scorer,
                precision=self.precision,
                variants=variants,
                places=[site_of(unit) for unit in self._all_units()],
                measure=self.measure,
                tells_distance=self.tells_distance,
            )
            return bench.outcomes(self.data, stop=self.stop)

    def _all_units(self) -> list[Unit]:
        return list(self.units if isinstance(self.units, UnitMap) else self.units.values())

    @cached_property
    def _fitter(self) -> Fitter:
        return Fitter(
            self.model,
            self.fit,
            method=self.method,
            example_inputs=self.example_inputs,
            teacher=self.teacher,
        )

    def _fitted(self, names: Sequence[str]) -> Fitted:
        chosen = [self.units[name] for name in (*self.gone, *names)] if names else []
        return self._fitter.fitted(chosen)

    def _alone(self, names: Sequence[str], recover: Recover | None) -> Measured:
        """Return the outcomes of one network, cut for good, on a copy."""
        network, after = self._cut(names), NOTHING
        if recover is None:
            cut = self._score(network)
        for name, variant in self._fitted(names).variants.items():
            other = self._cut(names, variant)
            if name != NOTHING and self._distance(other) < self._distance(network):
                network, after = other, name
        if recover is not None:
            if any(type(module) is nn.Conv2d for module in network.modules()):
                network = network.to(memory_format=torch.channels_last)
            recover(network)
        best = self._score(network)
        distance = self._distance(network) if self.tells_distance else math.nan
        return Measured(best if recover is not None else cut, best, after, distance)

    def _cut(self, names: Sequence[str], variant: Variant | None = None) -> nn.Module:
        """Return the network without units, with the tensors of a variant."""
        network, origins = remove_with_origins(
            self.model,
            [self.units[name] for name in (*self.gone, *names)],
            example_inputs=self.example_inputs,
        )
        tensors = network.state_dict(keep_vars=True)
        for own, key in origins.items():
            if variant and key in variant:
                tensors[own].data.copy_(variant[key])
        return network

    def _score(self, network: nn.Module) -> Outcomes:
        if self.precision != "keep":
            network = faster_copy(network, self.example_inputs)
        return evaluate(network, self.data, scorer=self.scorer)

    def _distance(self, network: nn.Module) -> float:
        """Return the mean distance of a network's answers from the reference's."""
        total, reference = 0.0, self._cut(())
        for inputs, _ in self.data:
            size = modules.batch_size(inputs)
            parts = [rows_between(inputs, i, min(i + PART, size)) for i in range(0, size, PART)]
            pair = (answers(reference, parts), answers(network, parts))
            total += float(divergence(*pair, parts, self.measure).sum())
        return total / sum(modules.batch_size(inputs) for inputs, _ in self.data)
