"""A ranking proposes, a trial decides: units are removed on a copy, and the loss is measured.

A trial is cut, then recalibration where held-out examples say that it helps, then score. All
networks are measured side by side (`trialbench.py`); those that are trained before, in turn.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from srinit import records
from srinit.comparison import Difference, compare_outcomes
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
from srinit.finetune import recalibrate
from srinit.records import record
from srinit.sensitivity import Ranks
from srinit.sensitivity.workbench import eager
from srinit.sensitivity.working import Precision, faster_copy
from srinit.surgery import remove_units
from srinit.surgery.remove import check_names
from srinit.trialbench import TrialBench
from srinit.units.fingerprint import check_fits
from srinit.units.records import Unit, UnitMap

Progress = Callable[[int, int], None]
Recover = Callable[[nn.Module], object]  # trains in place
Batch = tuple[Any, Any]


@record
class Trial:
    """What some units cost together, against the network with them, which is not trained."""

    removed: tuple[str, ...]
    cost: Difference  # score with them - score without, paired; positive is worse


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
    recover: Recover | None = None,
    precision: Precision = "auto",
    ranks: Ranks | None = None,
    on_progress: Progress | None = None,
) -> tuple[Trial, ...]:
    """Return what each candidate costs if it is removed, with its interval.

    The reference is the network as it is, untouched but for `gone`. Candidates are measured as they
    are cut, or with batch normalization estimated anew on the first half of `data` where the scores
    on the second half are higher for it. What lies before a candidate is not
    computed again, and the arithmetic is that of the scan.

    Args:
        model: The unpruned network; not touched.
        units: Its units.
        candidates: Names of units that are removed together.
        data: Calibration batches, `(inputs, target)` or dicts with `labels`; read twice, with
            `recover` for each candidate.
        example_inputs: One batch that the network takes.
        gone: Units that are gone already.
        scorer: Score per example in [0, 1].
        confidence: Of every interval, each for itself.
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
    work = _Work(model, units, tuple(gone), batches, example_inputs, scorer, precision)
    done: list[Difference] = []
    if mine:

        def tell(number: int) -> None:
            if on_progress is not None:
                on_progress(min(number * count, len(candidates)), len(candidates))

        reference, others = work.measure(mine, recover, tell)
        done = [compare_outcomes(reference, each, confidence=confidence).score for each in others]
    parts = [done]
    if ranks is not None:
        lines = ranks.gather([records.plain(cost) for cost in done])
        parts = [[Difference(**line) for line in of_rank] for of_rank in lines]
    return tuple(
        Trial(removed=tuple(names), cost=parts[number % count][number // count])
        for number, names in enumerate(candidates)
    )


@dataclass(frozen=True)
class _Work:
    """What networks are measured with."""

    model: nn.Module
    units: UnitMap | Mapping[str, Unit]
    gone: tuple[str, ...]
    data: Iterable[Batch]
    example_inputs: Any
    scorer: Scorer
    precision: Precision

    def measure(
        self,
        candidates: Sequence[tuple[str, ...]],
        recover: Recover | None,
        tell: Callable[[int], None],
    ) -> tuple[Outcomes, list[Outcomes]]:
        """Return the outcomes of the reference, and of the network without each candidate."""
        if recover is None:
            try:
                return self._side_by_side(candidates, tell)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
        reference = self._alone((), None)
        others = []
        for number, names in enumerate(candidates, start=1):
            others.append(self._alone(names, recover))
            tell(number)
        return reference, others

    def _side_by_side(
        self, candidates: Sequence[tuple[str, ...]], tell: Callable[[int], None]
    ) -> tuple[Outcomes, list[Outcomes]]:
        data = self.data if isinstance(self.data, Sequence) else list(self.data)
        if not data:
            raise DataError("the data holds no example; no removal can be tried on it.")
        with eager():
            bench = TrialBench(
                self.model,
                [self.units[name] for name in self.gone],
                [[self.units[name] for name in names] for names in candidates],
                data[0],
                scorer=self.scorer,
                precision=self.precision,
            )
            reference, *others = bench.outcomes(data)
        tell(len(candidates))
        return reference, others

    def _alone(self, names: Sequence[str], recover: Recover | None) -> Outcomes:
        """Return the outcomes of one network, cut for good, on a copy."""
        chosen = [self.units[name] for name in (*self.gone, *names)]
        network = remove_units(self.model, chosen, example_inputs=self.example_inputs)
        if names:
            network = self._recalibrated_if_better(network)
        if recover is not None:
            if any(type(module) is nn.Conv2d for module in network.modules()):
                network = network.to(memory_format=torch.channels_last)
            recover(network)
        if self.precision != "keep":
            network = faster_copy(network, self.example_inputs)
        return evaluate(network, self.data, scorer=self.scorer)

    def _recalibrated_if_better(self, network: nn.Module) -> nn.Module:
        """Return the network, or it with new statistics where held-out scores are higher."""
        data = self.data if isinstance(self.data, Sequence) else list(self.data)
        first = len(data) // 2
        renewed = copy.deepcopy(network)
        if not first or not recalibrate(renewed, data[:first]):
            return network
        before = evaluate(network, data[first:], scorer=self.scorer).score
        after = evaluate(renewed, data[first:], scorer=self.scorer).score
        return renewed if after > before else network


def _knows(units: UnitMap | Mapping[str, Unit], name: str) -> bool:
    known = units.names if isinstance(units, UnitMap) else units
    return name in known
