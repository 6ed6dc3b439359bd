"""A ranking proposes, a trial decides: units are removed on a copy, and the loss is measured.

A trial is cut, then what a run does after a cut, where held-out examples say that it helps, then
score. All networks are measured side by side (`trialbench.py`); those that are trained before, in
turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from srinit import modules, records
from srinit.comparison import Difference, compare_outcomes
from srinit.compensation.answers import Measure, answers, divergence
from srinit.compensation.variants import Fitted, Fitter, Method, Variant, size_of
from srinit.distributed import ProcessGroup
from srinit.errors import ConfigError, DataError, as_names, is_out_of_memory
from srinit.evaluate import (
    Outcomes,
    Scorer,
    batches_of,
    check_rereadable,
    evaluate,
    inputs_of,
    top1,
)
from srinit.modules import rows_between
from srinit.records import record
from srinit.sensitivity.workbench import eager
from srinit.sensitivity.working import Precision, faster_copy
from srinit.surgery import remove_with_origins
from srinit.surgery.remove import check_names
from srinit.trialbench import NOTHING, Measured, TrialBench
from srinit.units.bypass import site_of
from srinit.units.fingerprint import check_fits
from srinit.units.records import Unit, UnitMap

Progress = Callable[[int, int], None]
Recover = Callable[[nn.Module], object]  # trains in place
Batch = tuple[Any, Any]
SCHEMA = "srinit.trial/1"
PART = 32  # examples of which answers are compared at a time
BUDGET = 1 << 30  # bytes of changed weights of networks that are measured side by side


@record
class Trial:
    """What some units cost together, against the network with them, which is not trained."""

    removed: tuple[str, ...]
    cost: Difference  # score with them - score without, paired; positive is worse
    after: str = NOTHING  # what was done after the cut: "realigned", "recalibrated"
    cut: Difference | None = None  # the cost right after the cut, where nothing was trained


def try_removals(
    model: nn.Module,
    units: UnitMap | Mapping[str, Unit],
    candidates: Sequence[Sequence[str]],
    data: Iterable[Batch],
    *,
    example_inputs: Any,
    gone: Sequence[str] = (),
    scorer: Scorer = top1,
    confidence: float = 0.95,
    method: Method = "auto",
    fit: Sequence[Any] = (),
    teacher: nn.Module | None = None,
    measure: Measure = "probabilities",
    recover: Recover | None = None,
    precision: Precision = "auto",
    ranks: ProcessGroup | None = None,
    on_progress: Progress | None = None,
) -> tuple[Trial, ...]:
    """Return what each candidate costs if it is removed, with its interval.

    The reference is the network as it is, untouched but for `gone`. Candidates are measured as they
    are cut and with what a run does after a cut, fitted on `fit`; that counts whose answers to
    `data` are nearer to the reference's. What lies before a candidate is not computed again, and
    the arithmetic is that of the scan.

    Args:
        model: The unpruned network; not touched.
        units: Its units.
        candidates: Names of units that are removed together.
        data: Calibration batches, `(inputs, target)` or dicts with `labels`; read several times.
        example_inputs: One batch that the network takes.
        gone: Units that are gone already.
        scorer: Score per example in [0, 1].
        confidence: Of every interval, each for itself.
        method: What is tried after a cut, as `compensate.method` of a config: "auto", "recalibrate"
            or "none".
        fit: Batches of inputs, others than those of `data`, that it is fitted on; without any,
            candidates are measured as they are cut.
        teacher: The unpruned network, where `model` was trained since.
        measure: How answers are compared, see `srinit.compensate`.
        recover: A short training of a network without a candidate, before it is measured; its
            teacher and data are the caller's. None: nothing is trained.
        precision: "auto": bfloat16 where the hardware gains from it and nearly all scores of the
            first batch agree; "keep": the model's own arithmetic.
        ranks: Processes that share the candidates; all of them must call this, and get the same.
        on_progress: Called with (candidates done, candidates in all).

    Raises:
        ConfigError: A candidate is a text in place of a list of names, or names no unit.
        DataError: There is no example, or the data can be read only once.
        PlanError: A candidate is named twice.
        SurgeryError: A unit cannot be taken out.

    Example:
        >>> import torch
        >>> from srinit.units import find_units
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        >>> net = nn.Sequential(net, nn.Flatten(), nn.Linear(32, 2)).eval()
        >>> x = torch.randn(20, 4, 8)
        >>> units = find_units(net, x[:2])
        >>> trial, = try_removals(net, units, [units.names[:1]], [(x, torch.ones(20).long())],
        ...     example_inputs=x[:2])
        >>> trial.removed, -1 <= trial.cost.low <= trial.cost.drop <= trial.cost.high <= 1
        (('0.layers.0',), True)
    """
    check_rereadable(data, "a trial")
    candidates = [as_names(names, "a candidate of candidates") for names in candidates]
    gone = as_names(gone, "gone")
    unknown = [name for names in (gone, *candidates) for name in names if not _knows(units, name)]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} cannot be tried: it is no removable unit.")
    example_inputs = inputs_of(example_inputs, model)
    rank, count = (0, 1) if ranks is None else (ranks.rank, ranks.count)
    for names in candidates:
        check_names(model, [units[name] for name in (*gone, *names)])
        check_fits(model, [units[name] for name in (*gone, *names)])
    mine = [tuple(names) for names in candidates[rank::count]]
    batches = list(batches_of(data, model))
    work = _Work(
        model, units, tuple(gone), batches, example_inputs, scorer, precision,
        method if len(fit) else "none", fit, teacher, measure,
    )  # fmt: skip
    done: list[Trial] = []
    if mine:

        def tell(number: int) -> None:
            if on_progress is not None:
                on_progress(min(number * count, len(candidates)), len(candidates))

        reference, others = work.outcomes(mine, recover, tell)
        for names, each in zip(mine, others, strict=True):
            costs = [
                compare_outcomes(reference, outcomes, confidence=confidence).score
                for outcomes in (each.best, each.cut)
            ]
            right_after = costs[1] if recover is None else None
            done.append(Trial(removed=names, cost=costs[0], after=each.after, cut=right_after))
    parts = [done]
    if ranks is not None:
        texts = ranks.gather([records.to_json(trial, schema=SCHEMA) for trial in done])
        parts = [[records.from_json(Trial, text, schema=SCHEMA) for text in of] for of in texts]
    return tuple(parts[number % count][number // count] for number in range(len(candidates)))


def removal_distances(
    model: nn.Module,
    units: UnitMap,
    data: Iterable[Batch],
    *,
    example_inputs: Any,
    scorer: Scorer = top1,
    method: Method = "auto",
    fit: Sequence[Any] = (),
    measure: Measure = "probabilities",
    precision: Precision = "auto",
    ranks: ProcessGroup | None = None,
    on_progress: Progress | None = None,
) -> dict[str, float]:
    """Return how far the answers are from the network's without each unit, compensated.

    A criterion: the unit with the least distance goes first. It costs a trial of every unit.

    Args:
        model: The network; not touched.
        units: Its units.
        data: See `try_removals`; labels are read by `scorer` alone, which distances do not need.
        example_inputs: See `try_removals`.
        scorer: See `try_removals`.
        method: See `try_removals`.
        fit: See `try_removals`.
        measure: See `try_removals`.
        precision: See `try_removals`.
        ranks: See `try_removals`.
        on_progress: See `try_removals`.

    Raises:
        DataError: There is no example, or the data can be read only once.
        PlanError: The units are those of another network.
        SurgeryError: A unit cannot be taken out.

    Example:
        >>> import torch
        >>> from srinit.units import find_units
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> net = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        >>> net = nn.Sequential(net, nn.Flatten(), nn.Linear(32, 2)).eval()
        >>> x = torch.randn(20, 4, 8)
        >>> found = removal_distances(
        ...     net, find_units(net, x[:2]), [(x, torch.ones(20).long())], example_inputs=x[:2]
        ... )
        >>> sorted(found), all(0 < distance < 1 for distance in found.values())
        (['0.layers.0', '0.layers.1'], True)
    """
    check_rereadable(data, "a trial")
    check_fits(model, units)
    rank, count = (0, 1) if ranks is None else (ranks.rank, ranks.count)
    names = [(name,) for name in units.names]
    work = _Work(
        model, units, (), list(batches_of(data, model)), inputs_of(example_inputs, model), scorer,
        precision, method if len(fit) else "none", fit, None, measure, tells_distance=True,
    )  # fmt: skip

    def tell(number: int) -> None:
        if on_progress is not None:
            on_progress(min(number * count, len(names)), len(names))

    mine = names[rank::count]
    measured = work.outcomes(mine, None, tell)[1] if mine else []
    found = {name: each.distance for (name,), each in zip(mine, measured, strict=True)}
    parts = [found] if ranks is None else ranks.gather(found)
    every = {name: distance for part in parts for name, distance in part.items()}
    return {name: every[name] for name in units.names}


@dataclass(frozen=True)
class _Work:
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
                reference, measured = self._bench(candidates[len(found) : number], waiting)
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
            return bench.outcomes(self.data)

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


def _knows(units: UnitMap | Mapping[str, Unit], name: str) -> bool:
    known = units.names if isinstance(units, UnitMap) else units
    return name in known
