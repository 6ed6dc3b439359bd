"""What is asked of networks in a run, and how they are measured: scores, errors, times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from srinit.comparison import Comparison, compare_outcomes, shared_outcomes
from srinit.distributed import ProcessGroup
from srinit.engine import faster_copy
from srinit.evaluate import Loss, Outcomes, Scorer
from srinit.latency import Latency, LatencyPair, measure_latency, measure_latency_pair
from srinit.observer import Observer
from srinit.sources import DataSet


@dataclass(frozen=True)
class Task:
    """What is asked of a network, and what errors mean."""

    score: str  # as the config names it
    scorer: Scorer
    loss: Loss | None  # None: the one that belongs to the score
    class_names: tuple[str, ...]
    error_terms: Mapping[str, Any]  # keyword arguments of `compare_outcomes`, `check_feasible`
    confidence: float

    def compared(self, before: Outcomes, after: Outcomes, **more: Any) -> Comparison:
        """Return two networks compared; `more` are keyword arguments of `compare_outcomes`."""
        return compare_outcomes(
            before,
            after,
            class_names=self.class_names,
            **self.error_terms,
            confidence=self.confidence,
            **more,
        )


@dataclass(frozen=True)
class Execution:
    """How work is done: seed, device, examples a batch, and who is told of it."""

    seed: int
    device: torch.device
    batch_size: int
    observer: Observer

    @property
    def ranks(self) -> ProcessGroup:
        """The processes that share the work at this moment."""
        return ProcessGroup()

    def batches(self, data: DataSet) -> Any:
        """Return the batches of a data set, in its order."""
        return data.batches(self.batch_size)


@dataclass(frozen=True)
class Evaluator:
    """Measures networks on data sets, by all processes that share the run.

    All of them must call it, and get the same; each reads every n-th batch.
    """

    scorer: Scorer
    execution: Execution

    def __call__(
        self,
        model: nn.Module,
        data: DataSet,
        *,
        scorer: Scorer | None = None,
        served: Callable[[Any], Any] = lambda batches: batches,
        on_progress: Callable[[int, int | None], None] | None = None,
    ) -> Outcomes:
        """Return the outcomes on every example.

        Args:
            model: The network.
            data: The examples.
            scorer: By default that of the run.
            served: What is made of the batches before they are read.
            on_progress: Called with (examples done, examples in all or None).
        """
        size = self.execution.batch_size
        return shared_outcomes(
            model,
            lambda first, step: served(data.batches(size, start=first, every=step)),
            scorer=scorer or self.scorer,
            ranks=self.execution.ranks,
            on_progress=on_progress,
        )

    def fast(self, model: nn.Module, data: DataSet, example_inputs: Any) -> Outcomes:
        """Return the outcomes in cheaper arithmetic, where the device has it."""
        return self(faster_copy(model, example_inputs), data)

    def pair(
        self, first: nn.Module, second: nn.Module, data: DataSet, **options: Any
    ) -> list[Outcomes]:
        """Return the outcomes of two networks on the same examples."""
        return [self(model, data, **options) for model in (first, second)]


@dataclass(frozen=True)
class Bench:
    """Times networks on the device, at the batch sizes that the config asks for."""

    inputs: Any  # one batch that the network takes
    batch_sizes: Sequence[int]

    def alone(self, model: nn.Module) -> tuple[Latency, ...]:
        """Return the latency of a network at every batch size."""
        return tuple(
            measure_latency(model, self.inputs, batch_size=size) for size in self.batch_sizes
        )

    def pairs(self, first: nn.Module, second: nn.Module) -> tuple[LatencyPair, ...]:
        """Return the latency of two networks, measured in turns, at every batch size."""
        return tuple(
            measure_latency_pair(first, second, self.inputs, batch_size=size)
            for size in self.batch_sizes
        )
