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
