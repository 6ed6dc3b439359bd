"""Outcomes of several processes, each with its share of the batches, in the order of the data."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import fields
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from srinit.errors import DataError
from srinit.evaluate import Outcomes, Scorer, evaluate, top1
from srinit.sensitivity import Ranks

Serve = Callable[[int, int], Iterable[tuple[Any, Any]]]
"""Serves every n-th batch of a data set from the k-th on; called with (k, n)."""
NAMES = tuple(field.name for field in fields(Outcomes))
Parts = list[dict[str, npt.NDArray[Any]]]


def shared_outcomes(
    model: nn.Module,
    serve: Serve,
    *,
    scorer: Scorer = top1,
    ranks: Ranks | None = None,
    device: torch.device | str | None = None,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> Outcomes:
    """Return the outcome of a network on every example, as `evaluate` does; ranks share batches.

    Args:
        model: Any module, the same in all processes.
        serve: Gives a share of the batches, the same data in all processes.
        scorer: Score per example in [0, 1].
        ranks: The processes; all of them must call this, and get the same.
        device: Where the inputs go; by default to the device of the model.
        on_progress: Called with (examples done in all processes, about; examples in all or None).

    Raises:
        DataError: There was no example, or the target does not fit the output.
    """
    ranks = ranks or Ranks(alone=True)
    if ranks.count == 1:
        return evaluate(model, serve(0, 1), scorer=scorer, device=device, on_progress=on_progress)
    edges = [0]

    def note(done: int, total: int | None) -> None:
        edges.append(done)
        if on_progress is not None:
            about = done * ranks.count
            on_progress(about if total is None else min(about, total), total)

    def own() -> Outcomes | None:
        batches = iter(serve(ranks.rank, ranks.count))
        first = next(batches, None)
        if first is None:
            return None
        mine = chain([first], batches)
        return evaluate(model, mine, scorer=scorer, device=device, on_progress=note)

    found = ranks.together(own)
    parts = [_read(content) for content in ranks.gather_bytes(_written(found, edges))]
    total = range(sum(map(len, parts)))
    ordered = [parts[number % ranks.count][number // ranks.count] for number in total]
    if not ordered:
        raise DataError("the data holds no example; nothing can be measured on it.")
    return Outcomes(**{name: np.concatenate([part[name] for part in ordered]) for name in NAMES})


def every(data: Iterable[tuple[Any, Any]]) -> Serve:
    """Return how a loader serves every n-th of its batches; it makes all of them."""
    return lambda first, step: data if step == 1 else islice(iter(data), first, None, step)


def _written(found: Outcomes | None, edges: list[int]) -> bytes:
    """Return the outcomes of a process, and where its batches end, as NPZ."""
    buffer = io.BytesIO()
    arrays = {} if found is None else {name: getattr(found, name) for name in NAMES}
    np.savez(buffer, edges=np.array(edges), **arrays)
    return buffer.getvalue()


def _read(content: bytes) -> Parts:
    """Return the outcomes of another process, batch by batch."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        held = dict(arrays)
    edges = held.pop("edges").tolist()
    return [
        {name: array[begin:end] for name, array in held.items()} for begin, end in pairwise(edges)
    ]
