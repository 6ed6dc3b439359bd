"""NumPy archives: images as bytes, or arrays of any kind with their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from srinit import store
from srinit.errors import DataError
from srinit.sources.examples import Arrays, Examples, PixelArrays
from srinit.sources.kinds.loaded import Loaded, class_indices, file_at

INPUTS = ("images", "x", "data")
TARGETS = ("labels", "y", "target")
NAMES = "class_names"


def npz(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return the examples of an NPZ file; what they are is told by name, type and shape.

    `images` (or `x`) of bytes or uint16, (N, H, W) or (N, H, W, C), are images and are
    preprocessed. Other arrays, such as floats (N, ...) or tokens (N, T), are handed to the model
    as they are; without `images` or `x` every array but the targets is an argument of its name.
    `labels` (or `y`) (N,) are class indices; targets of more dimensions, such as masks, are kept
    as they are. Names of classes may be in `class_names`.

    Raises:
        DataError: The file is damaged, holds objects, or lacks arrays.
    """
    file = file_at("npz", name, root)
    return from_arrays(store.read_npz(file), classes, where=str(file), title=file.name)


def from_arrays(
    arrays: Mapping[str, npt.NDArray[Any]],
    classes: Sequence[str] | None,
    *,
    where: str,
    title: str,
) -> Loaded:
    """Return the examples of named arrays; see `npz`.

    Raises:
        DataError: Inputs or targets are missing, or do not belong together.
    """
    inputs, targets = _pick(arrays, where)
    count = len(targets)
    wrong = [
        f"{key or 'inputs'} {value.shape} {value.dtype}"
        for key, value in inputs.items()
        if value.ndim < 1 or len(value) != count or value.dtype.kind not in "fiub"
    ]
    if wrong or count == 0:
        raise DataError(
            f"{where}: inputs and targets need the same first dimension, of one example at least, "
            f"and numbers: {', '.join(wrong) or 'no example'}, targets {targets.shape}."
        )
    names: tuple[str, ...] = ()
    if targets.ndim == 1:
        declared = [str(n) for n in arrays[NAMES]] if NAMES in arrays else None
        labels = [value.item() for value in targets]
        names, targets = class_indices(labels, declared=declared, classes=classes, where=where)
    rows = [f"{title} row {index}" for index in range(count)]
    used = {next((key for key in TARGETS if key in arrays), ""), NAMES, *inputs}
    used |= {next((key for key in INPUTS if key in arrays), "")}
    unused = [key for key in arrays if key not in used]
    notes = (f"{where}: arrays left out: {', '.join(unused[:12])}",) if unused else ()
    return Loaded(_examples(inputs, rows, targets), names, notes)


def _pick(
    arrays: Mapping[str, npt.NDArray[Any]], where: str
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[Any]]:
    label = next((key for key in TARGETS if key in arrays), None)
    image = next((key for key in INPUTS if key in arrays), None)
    others = [key for key in arrays if key not in (label, NAMES)]
    if label is None or not others:
        raise DataError(
            f"{where} should hold inputs ({', '.join(INPUTS)}, or arguments by name) and targets "
            f"({', '.join(TARGETS)}), found {sorted(arrays)[:12]}."
        )
    targets = arrays[label]
    if targets.ndim < 1 or targets.dtype.kind not in "iubU":
        raise DataError(f"{where}: {label} should be integers or names, found {targets.dtype}.")
    if targets.dtype.kind in "iub" and targets.ndim > 1:
        targets = targets.astype(np.int64)
    return ({"": arrays[image]} if image else {key: arrays[key] for key in others}), targets


def _examples(
    inputs: Mapping[str, npt.NDArray[Any]], rows: list[str], targets: npt.NDArray[Any]
) -> Examples:
    single = inputs.get("")
    if single is not None and single.dtype in (np.uint8, np.uint16) and single.ndim in (3, 4):
        if single.ndim == 3 or single.shape[3] in (1, 3, 4):
            return PixelArrays(single, rows, targets)
        raise DataError(
            f"images of shape {single.shape} are not (N, H, W) or (N, H, W, C) with 1, 3 or 4 "
            "channels; put the channels last."
        )
    return Arrays({key: _as_torch_takes(value) for key, value in inputs.items()}, rows, targets)


def _as_torch_takes(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return floats as float32 and integers as int64, which is what models take."""
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    return array.astype(np.int64, copy=False) if array.dtype.kind in "iu" else array
