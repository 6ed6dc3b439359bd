"""A network measured on a data set of the run, by all processes that share it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from srinit.comparison import shared_outcomes
from srinit.evaluate import Outcomes, Scorer
from srinit.pipeline.session import Session
from srinit.sensitivity import Ranks
from srinit.sources import DataSet


def outcomes(
    session: Session,
    model: nn.Module,
    data: DataSet,
    *,
    scorer: Scorer | None = None,
    served: Callable[[Any], Any] = lambda batches: batches,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> Outcomes:
    """Return the outcomes on every example; each process reads every n-th batch.

    All processes of a run must call it, and get the same.

    Args:
        session: The run.
        model: The network.
        data: The examples.
        scorer: By default that of the run.
        served: What is made of the batches before they are read.
        on_progress: Called with (examples done, examples in all or None).
    """
    size = session.config.data.batch_size
    return shared_outcomes(
        model,
        lambda first, step: served(data.batches(size, start=first, every=step)),
        scorer=scorer or session.scorer,
        ranks=Ranks(),
        on_progress=on_progress,
    )
