"""Data from a function of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from srinit.errors import DataError
from srinit.functions import load_function
from srinit.pixels.deep import Bits, refuse_deep
from srinit.sources.examples import Examples
from srinit.sources.kinds.loaded import Loaded, class_indices
from srinit.sources.kinds.npz import from_arrays

EXPECTED = (
    "(inputs, labels) or (inputs, labels, class_names) as arrays, a dict of arrays, or a data set "
    "with len() and [i] -> (image or tensor, label)"
)


def python(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return what a user's function returns, called without arguments.

    Arrays are read as in an NPZ file. A map-style data set (torchvision's, for example) gives
    PIL images, which are preprocessed, or tensors, which are not; it must give the same example
    every time, so leave random transforms out.

    Raises:
        DataError: It returns something else, or fails.
    """
    function = load_function(name, root)
    try:
        made = function()
    except Exception as error:
        raise DataError(f"py:{name} fails: {type(error).__name__}: {error}") from error
    where, title = f"py:{name}", name.rpartition(":")[2]
    if isinstance(made, tuple) and len(made) in (2, 3):
        keys = ("x", "labels", "class_names")
        made = {key: np.asarray(value) for key, value in zip(keys, made, strict=False)}
    if isinstance(made, dict):
        arrays = {key: np.asarray(value) for key, value in made.items()}
        return from_arrays(arrays, classes, where=where, title=title)
    if not hasattr(made, "__len__") or not hasattr(made, "__getitem__") or len(made) == 0:
        raise DataError(f"{where} should return {EXPECTED}; found {type(made).__name__}.")
    return _from_dataset(made, classes, where, title)


def _from_dataset(made: Any, classes: Sequence[str] | None, where: str, title: str) -> Loaded:
    try:
        first, _ = made[0]
    except Exception as error:
        raise DataError(f"{where} should return {EXPECTED}; [0] gave {error!r}.") from None
    if not isinstance(first, Image.Image | torch.Tensor):
        raise DataError(f"{where}: [0] gave {type(first).__name__}, not a PIL image or a tensor.")
    labels = getattr(made, "targets", None)
    if labels is None or len(labels) != len(made):
        labels = [made[index][1] for index in range(len(made))]
    labels = [int(label) if not isinstance(label, str) else label for label in labels]
    declared = getattr(made, "classes", None)
    declared = [str(name) for name in declared] if declared is not None else None
    names, targets = class_indices(labels, declared=declared, classes=classes, where=where)
    rows = [f"{title} row {index}" for index in range(len(made))]
    kind: type[Examples] = MapImages if isinstance(first, Image.Image) else MapTensors
    return Loaded(kind(made, rows, targets), names)  # type: ignore[call-arg]


@dataclass(frozen=True)
class MapImages:
    """A map-style data set of PIL images."""

    dataset: Any
    names: Sequence[str]
    targets: npt.NDArray[np.int64]

    def content(self, index: int) -> bytes:
        """Return the pixels' bytes."""
        return bytes(self._found(index).tobytes())

    def image(self, index: int, bits: Bits) -> Image.Image:
        """Return the image."""
        return refuse_deep(self._found(index), bits)

    def _found(self, index: int) -> Image.Image:
        found = self.dataset[index][0]
        if not isinstance(found, Image.Image):
            raise ValueError(f"is {type(found).__name__}, not a PIL image")
        return found


@dataclass(frozen=True)
class MapTensors:
    """A map-style data set of tensors, ready for the model."""

    dataset: Any
    names: Sequence[str]
    targets: npt.NDArray[np.int64]

    def content(self, index: int) -> bytes:
        """Return the tensor's bytes."""
        return bytes(self.dataset[index][0].contiguous().view(torch.uint8).numpy().tobytes())

    def tensors(self, indices: Sequence[int]) -> torch.Tensor:
        """Return some examples stacked."""
        return torch.stack([self.dataset[index][0] for index in indices])
