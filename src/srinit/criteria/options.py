"""What a criterion is called with; the Protocol that a user's own has to follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from srinit.criteria.records import UnitScore
from srinit.engine import Batch
from srinit.evaluate import Loss, Scorer, top1
from srinit.reinit import Scheme
from srinit.units.records import UnitMap

OnProgress = Callable[[float, float | None, str], None]  # batches done, batches in all, a note


@dataclass(frozen=True, kw_only=True)
class Options:
    """What else was asked of a criterion; use what you need of it."""

    device: torch.device
    seed: int = 0
    scorer: Scorer = top1  # per-example score in [0, 1]
    loss: Loss | None = None  # None: what belongs to the scorer (`srinit.evaluate.loss_for`)
    confidence: float = 0.95  # of intervals
    scheme: str | Scheme = "auto"  # of re-initialization
    precision: str = "auto"  # bfloat16 where the hardware gains from it and scores agree
    on_progress: OnProgress | None = None
    share: tuple[int, int] = (0, 1)  # (k, n): every n-th unit from the k-th on, where units cost


class Batches(Protocol):
    """Calibration batches in random order, the same order each time they are read."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __len__(self) -> int: ...


class Criterion(Protocol):
    """A way of scoring units: lower goes first.

    Called with a copy of the network in evaluation mode, so that nothing it does reaches the
    caller's; with the units; and with calibration batches, which it may read more than once.
    Return a number or a `UnitScore` for each unit; None, or leaving one out: not scored.
    """

    def __call__(
        self, model: nn.Module, units: UnitMap, data: Batches, options: Options
    ) -> Mapping[str, float | UnitScore | None]:
        """Return the scores by name of unit."""
        ...
