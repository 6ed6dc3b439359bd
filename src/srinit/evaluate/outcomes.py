"""What a model did with every example, and the file that keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from srinit import store
from srinit.errors import DataError
from srinit.records import record

LATER = ("losses", "tokens", "counts", "evidence")  # fields that files of earlier versions lack


@record
class Outcomes:
    """What a model did with every example, in the order of the data.

    Arrays have one entry an example. `predictions` and `confidence` are empty for tasks that do
    not choose one class per example.
    """

    scores: npt.NDArray[np.float64]  # in [0, 1]
    finite: npt.NDArray[np.bool_]  # False where the output held NaN or infinity
    targets: npt.NDArray[np.int64]  # empty where targets are not class indices
    predictions: npt.NDArray[np.int64]  # -1 where the output was not finite
    confidence: npt.NDArray[np.float64]  # softmax probability of the prediction
    # Of causal language models, else empty: summed negative log probability, and tokens of it.
    losses: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    tokens: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    # Of tasks that count within an example, else empty: see `srinit.evaluate.reading`.
    counts: npt.NDArray[Any] = field(default_factory=lambda: np.empty(0))
    evidence: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    @property
    def num_examples(self) -> int:
        """Number of examples."""
        return len(self.scores)

    @property
    def score(self) -> float:
        """Mean score (top-1 accuracy by default), a fraction."""
        return float(self.scores.mean())


def save_outcomes(path: Path, *, ids: Sequence[str] = (), **outcomes: Outcomes) -> None:
    """Write outcomes to an NPZ file: one array a field, named `NAME_FIELD`.

    Args:
        path: The file, e.g. `predictions.npz`.
        ids: Content hash of every example.
        outcomes: By name, e.g. `baseline=...`, `pruned=...`.

    Raises:
        ResourceError: The disk is full; what was there before stays.
    """
    arrays = {f"{name}_{k}": v for name, found in outcomes.items() for k, v in vars(found).items()}
    store.write_npz(path, {**arrays, **({"ids": np.array(ids)} if len(ids) else {})})


def load_outcomes(path: Path) -> tuple[dict[str, Outcomes], tuple[str, ...]]:
    """Return the outcomes by name, and the ids, that `save_outcomes` wrote.

    Raises:
        DataError: The file is missing, damaged, or holds other arrays.
    """
    arrays = store.read_npz(path)
    ids = tuple(str(name) for name in arrays.pop("ids", ()))
    keys = [field.name for field in fields(Outcomes)]
    names = [key.removesuffix("_scores") for key in arrays if key.endswith("_scores")]
    wanted = {f"{name}_{key}" for name in names for key in keys}
    later = {f"{name}_{key}" for name in names for key in LATER}
    if not names or wanted - later != set(arrays) - later:
        raise DataError(f"{path} holds no outcomes (arrays: {sorted(arrays)[:8]}).")
    found = {name: _checked(arrays, name, keys, path) for name in names}
    if ids and any(len(ids) != outcomes.num_examples for outcomes in found.values()):
        raise DataError(f"{path} is damaged: it holds {len(ids)} ids for other many examples.")
    return found, ids


def _checked(
    arrays: Mapping[str, npt.NDArray[Any]], name: str, keys: Sequence[str], path: Path
) -> Outcomes:
    parts = {key: arrays[f"{name}_{key}"] for key in keys if f"{name}_{key}" in arrays}
    count = len(parts["scores"]) if parts["scores"].ndim == 1 else -1
    empty = len(parts["predictions"]) == 0
    for key, array in parts.items():
        short = empty and key in ("targets", "predictions", "confidence")
        short = short or (key in LATER and len(array) == 0)
        kinds = {"finite": "b", "counts": "f" if short else "V"}
        kinds |= dict.fromkeys(("scores", "confidence", "losses", "evidence"), "f")
        if array.shape != (0 if short else count,) or array.dtype.kind not in kinds.get(key, "i"):
            raise DataError(f"{path} is damaged: {name}_{key} is {array.dtype} {array.shape}.")
    return Outcomes(**parts)
