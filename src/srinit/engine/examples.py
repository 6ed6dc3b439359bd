"""Random access to the examples of any data set: the scan reads them in an order of its own.

The order matters: intervals rest on examples that come in random order, and folders of images
come sorted by class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from srinit import modules
from srinit.errors import DataError
from srinit.evaluate import batches_of, inputs_and_target
from srinit.rng import isolated_rng, seed_for

Batch = tuple[Any, Any]  # inputs, target; the batch is the first dimension of every tensor


class Examples(Protocol):
    """Examples that can be read by position."""

    def __len__(self) -> int: ...

    def read(self, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Yield a batch for each list of positions."""
        ...


def open_examples(data: Iterable[Any], model: nn.Module | None = None) -> Examples:
    """Return `data` with random access.

    A data set of this package and a map-style `DataLoader` are read where they are, example by
    example. Anything else is read once, as it is, and kept in memory.

    Args:
        data: Batches `(inputs, target)`, or dicts with `labels`.
        model: What takes the inputs.

    Raises:
        DataError: There is no example.
    """
    dataset = getattr(data, "dataset", None)
    if dataset is not None and hasattr(dataset, "subset") and hasattr(dataset, "batches"):
        found: Examples = _Subsets(dataset)
    elif isinstance(data, DataLoader) and data.batch_sampler is not None:
        found = _Loader(data, model)
    else:
        found = _Kept(data, model)
    if len(found) == 0:
        raise DataError("the data holds no example; nothing can be measured on it.")
    return found


def order_of(num_examples: int, seed: int) -> list[int]:
    """Return the random order in which a scan with this seed reads the examples."""
    order: list[int] = (
        np.random.default_rng(seed_for(seed, "order")).permutation(num_examples).tolist()
    )
    return order


class _Subsets:
    """A `srinit.sources.DataSet`, or anything with its `subset` and `batches`."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def read(self, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        for positions in batches:
            yield from self._dataset.subset(positions).batches(len(positions))


class _Loader:
    """A `DataLoader` over a map-style data set, with its own collation and workers."""

    def __init__(self, loader: DataLoader[Any], model: nn.Module | None) -> None:
        self._loader, self._model = loader, model

    def __len__(self) -> int:
        return len(self._loader.dataset)  # type: ignore[arg-type]

    def read(self, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        with isolated_rng(0):
            reader: DataLoader[Any] = DataLoader(
                self._loader.dataset,
                batch_sampler=[list(positions) for positions in batches],
                num_workers=min(self._loader.num_workers, len(batches)),
                collate_fn=self._loader.collate_fn,
                worker_init_fn=self._loader.worker_init_fn,
            )
            iterator = iter(reader)
        for batch in iterator:
            yield inputs_and_target(batch, self._model)


class _Kept:
    """Batches read once and kept; examples are gathered from them."""

    def __init__(self, data: Iterable[Any], model: nn.Module | None) -> None:
        with isolated_rng(0):
            self._batches = list(batches_of(data, model))
        sizes = [modules.batch_size(inputs) for inputs, _ in self._batches]
        self._place = [(number, row) for number, size in enumerate(sizes) for row in range(size)]

    def __len__(self) -> int:
        return len(self._place)

    def read(self, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
        for positions in batches:
            rows = [self._row(*self._place[position]) for position in positions]
            try:
                yield _stack([row[0] for row in rows]), _stack([row[1] for row in rows])
            except RuntimeError as error:
                raise DataError(
                    f"examples of different batches do not fit into one batch ({error}); "
                    "pad them to one length, or give the data as one batch size."
                ) from error

    def _row(self, number: int, row: int) -> Batch:
        inputs, target = self._batches[number]
        size = modules.batch_size(inputs)
        found: Batch = modules.rows_between((inputs, target), row, row + 1, size)
        return found


def _stack(rows: Sequence[Any]) -> object:
    """Return the trees of single rows as one tree of a batch."""
    first = rows[0]
    if isinstance(first, Tensor):
        return torch.cat(list(rows)) if first.ndim else first
    if isinstance(first, Mapping):
        return {key: _stack([row[key] for row in rows]) for key in first}
    if isinstance(first, tuple | list):
        return type(first)(_stack(parts) for parts in zip(*rows, strict=True))
    return first
