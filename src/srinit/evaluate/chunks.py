"""Examples in the order of their content, so that nothing depends on how they were served.

Whoever stops reading early needs an order that has nothing to do with the examples' classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srinit import modules

Batch = tuple[Any, Any]


def by_content(batches: Sequence[Batch], size: int) -> list[Batch]:
    """Return the examples of batches in chunks of `size`, ordered by hashes of their content.

    Batches whose tensors do not fit together (texts that were padded to several lengths) stay in
    one piece each, and are ordered as wholes.

    Args:
        batches: `(inputs, target)`; the first dimension of every tensor is that of the examples.
        size: Examples of a chunk.

    Example:
        >>> data = [(torch.tensor([3.0, 1.0]), torch.tensor([3, 1])),
        ...     (torch.tensor([2.0]), torch.tensor([2]))]
        >>> other = [(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1, 2, 3]))]
        >>> [t.tolist() for _, t in by_content(data, 2)] == [
        ...     t.tolist() for _, t in by_content(other, 2)]
        True
    """
    joined = _joined(batches)
    if joined is None:
        return sorted(batches, key=lambda batch: _digest(modules.tensors(batch)))
    count = modules.batch_size(joined[0])
    rows = [t.detach().cpu().contiguous() for t in _tensors(joined)]
    order = sorted(range(count), key=lambda row: _digest(t[row] for t in rows))
    return [
        _taken(joined, torch.tensor(order[begin : begin + size])) for begin in range(0, count, size)
    ]


def _tensors(batch: Any) -> list[Tensor]:
    return list(modules.tensors(batch))


def _digest(tensors: Any) -> bytes:
    found = hashlib.sha256()
    for tensor in tensors:
        bits = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        found.update(np.asarray(bits).tobytes())
    return found.digest()


def _joined(batches: Sequence[Batch]) -> Batch | None:
    """Return all examples as one batch; None where they do not fit together."""
    first = batches[0] if batches else None
    if first is None or not _is_plain(first):
        return None
    shapes = {_form(batch) for batch in batches}
    sizes = [modules.batch_size(inputs) for inputs, _ in batches]
    fits = all(
        t.ndim and len(t) == size
        for batch, size in zip(batches, sizes, strict=True)
        for t in _tensors(batch)
    )
    if len(shapes) > 1 or not fits:
        return None
    columns = zip(*map(_tensors, batches), strict=True)
    joined = iter([torch.cat(column) for column in columns])
    found: Batch = modules.tree_map(lambda _: next(joined), first)
    return found


def _form(batch: Any) -> tuple[Any, ...]:
    return tuple((t.shape[1:], t.dtype, t.device) for t in _tensors(batch))


def _is_plain(tree: Any) -> bool:
    """Tell whether a tree holds tensors and nothing else that belongs to examples."""
    return all(leaf is None or isinstance(leaf, Tensor) for leaf in _leaves(tree))


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, Mapping):
        for value in tree.values():
            yield from _leaves(value)
    elif isinstance(tree, tuple | list):
        for value in tree:
            yield from _leaves(value)
    else:
        yield tree


def _taken(batch: Batch, rows: Tensor) -> Batch:
    found: Batch = modules.tree_map(lambda t: t.index_select(0, rows.to(t.device)), batch)
    return found
