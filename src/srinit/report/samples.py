"""Examples of a data set, as networks and as people get them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from srinit.report import images
from srinit.sources import DataSet


def inputs_of(data: DataSet, positions: Sequence[int]) -> Any:
    """Return one batch of chosen examples, as the network gets them."""
    return next(iter(data.subset(positions).batches(len(positions))))[0]


def pixels_of(data: DataSet, position: int) -> images.Bytes:
    """Return one example as the network gets it, before normalization, shape (H, W, C) bytes."""
    pixels_CHW = data.pool.pixels([data.indices[position]])[0].numpy()
    if pixels_CHW.shape[0] == 1:
        return np.ascontiguousarray(pixels_CHW[0])
    return np.ascontiguousarray(pixels_CHW.transpose(1, 2, 0))


def class_name(names: Sequence[str], index: int) -> str:
    """Return the name of a class, or its number where there are no names."""
    return names[index] if index < len(names) else str(index)


def spread(labels: Sequence[int], count: int) -> list[int]:
    """Return `count` positions, as evenly over the classes as there are examples, in their order.

    Example:
        >>> spread([0, 0, 0, 0, 0, 0, 1, 1, 2], 5)
        [0, 3, 6, 7, 8]
    """
    groups: dict[int, list[int]] = {}
    for position, label in enumerate(labels):
        groups.setdefault(label, []).append(position)
    chosen: list[int] = []
    left = min(count, len(labels))
    for done, group in enumerate(sorted(groups.values(), key=len)):
        quota = min(len(group), left // (len(groups) - done))
        chosen += [group[index * len(group) // quota] for index in range(quota)]
        left -= quota
    return sorted(chosen)
