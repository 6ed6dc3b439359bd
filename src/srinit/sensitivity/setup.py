"""What one scan works with: settings, examples in their order, and a model made ready."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from srinit import modules
from srinit.distributed import ProcessGroup
from srinit.engine import Batch, Examples, PerturbationEvaluator, Target, open_examples, order_of
from srinit.evaluate import Scorer
from srinit.sensitivity.drop_estimator import StoppingRule
from srinit.sensitivity.journal import Journal
from srinit.sensitivity.settings import Settings, identity, targets_of
from srinit.units.fingerprint import check_fits
from srinit.units.records import UnitMap


@dataclass
class Setup:
    """One scan, ready to measure."""

    model: nn.Module  # the caller's
    units: UnitMap
    settings: Settings
    scorer: Scorer
    device: torch.device
    ranks: ProcessGroup
    targets: tuple[Target, ...]
    examples: Examples
    order: list[int]  # in which the examples are read
    bench: PerturbationEvaluator
    rule: StoppingRule

    @classmethod
    def of(
        cls,
        model: nn.Module,
        units: UnitMap,
        data: Iterable[Batch],
        settings: Settings,
        *,
        scorer: Scorer,
        device: torch.device | str | None,
        ranks: ProcessGroup,
    ) -> Setup:
        """Return the setup of a scan with these settings."""
        where = torch.device(modules.device_of(model) if device is None else device)
        targets = targets_of(units)
        check_fits(model, units)
        examples = open_examples(data, model)
        order = order_of(len(examples), settings.seed)[: settings.max_examples]
        first = next(examples.read([order[: settings.batch_size]]))
        bench = PerturbationEvaluator(
            model, targets, first, scorer=scorer, device=where, seed=settings.seed,
            precision=settings.precision,
        )  # fmt: skip
        rule = StoppingRule(
            half_width=settings.half_width,
            confidence=settings.confidence,
            num_units=len(targets),
            max_drop=settings.max_drop,
            num_remove=settings.num_remove,
            decide=settings.widths == "decide",
        )
        return cls(
            model, units, settings, scorer, where, ranks, targets, examples, order, bench, rule
        )

    @property
    def num_draws(self) -> int | None:
        """Whole-set draws; None: a fresh one for every few examples."""
        return self.settings.draws or (1 if self.settings.scheme == "paper" else None)

    def open(self, path: Path | None) -> Journal:
        """Return the journal, which rank 0 keeps and every rank knows."""
        header = identity(
            self.settings, self.model, self.targets, len(self.examples), self.scorer, self.device
        )
        journal = Journal(path if self.ranks.rank == 0 else None, header)
        journal.lines = self.ranks.broadcast(journal.lines)
        return journal

    def batches(self, size: int) -> list[list[int]]:
        """Return the order, cut into batches."""
        return [self.order[i : i + size] for i in range(0, len(self.order), size)]

    def read(self, batches: list[list[int]], rounds: list[range]) -> Iterator[Batch]:
        """Yield the batches of some rounds that are this rank's."""
        mine = [batches[i] for r in rounds for i in r if (i - r.start) == self.ranks.rank]
        return self.examples.read(mine)


def rounds_of(done: int, total: int, ranks: int, *, warm_up: int = 0) -> list[range]:
    """Return the batches that are measured at the same time, by one rank each.

    No round crosses the warm-up, whose outcome the design of the next batches depends on.

    Example:
        >>> rounds_of(0, 5, 2, warm_up=1)
        [range(0, 1), range(1, 3), range(3, 5)]
    """
    rounds = []
    start = done
    while start < total:
        stop = min(start + ranks, total)
        if start < warm_up < stop:
            stop = warm_up
        rounds.append(range(start, stop))
        start = stop
    return rounds
