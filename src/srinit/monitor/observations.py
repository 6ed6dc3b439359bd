"""What is watched: the answers of a model and simple properties of its inputs, per example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from srinit.class_names import canonical
from srinit.errors import DataError
from srinit.monitor.log import Prediction, PredictionLog
from srinit.monitor.properties import PROPERTIES

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Observations:
    """Arrays with one entry an example; what is None was not observed.

    `agrees` and `right` are 1, 0, or NaN where nobody knows.
    """

    prediction: npt.NDArray[np.int64]
    confidence: Floats
    brightness: Floats | None = None
    contrast: Floats | None = None
    sharpness: Floats | None = None
    features: Floats | None = None  # (N, D)
    agrees: Floats | None = None  # with the unpruned network
    right: Floats | None = None

    def __len__(self) -> int:
        return len(self.prediction)

    def part(self, chosen: object) -> Observations:
        """Return some of the examples: a slice, positions or a mask."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        kept: dict[str, Any] = {k: None if v is None else v[chosen] for k, v in values.items()}
        return Observations(**kept)


def from_log(log: PredictionLog, model: str, class_names: Sequence[str]) -> Observations:
    """Return what a prediction log holds about one model.

    A property counts only if every prediction has it.

    Raises:
        DataError: The log holds nothing of this model, or a class that it does not have.
    """
    found = log.of_model(model)
    if not found:
        others = sorted({entry.model[:12] for entry in log.predictions})
        raise DataError(
            f"the log holds no prediction of the model {model[:12]}... of this run (found: "
            f"{', '.join(others) or 'no prediction'}). `model` is the SHA-256 of its weights."
        )
    index = {canonical(name): position for position, name in enumerate(class_names)}
    unknown = sorted({p for e in found if (p := canonical(e.prediction)) not in index})
    if unknown:
        raise DataError(
            f"the log holds classes that the model does not have: {', '.join(unknown[:5])}; "
            f"it has {', '.join(list(class_names)[:12])}."
        )
    return Observations(
        prediction=np.array([index[canonical(e.prediction)] for e in found], dtype=np.int64),
        confidence=np.array([e.confidence for e in found]),
        features=_vectors(found),
        agrees=_flags([None if e.shadow is None else e.shadow == e.prediction for e in found]),
        right=_flags(
            [None if (y := log.label_of(e)) is None else y == e.prediction for e in found]
        ),
        **{name: _column(found, name) for name in PROPERTIES},
    )


def _column(found: Sequence[Prediction], name: str) -> Floats | None:
    values = [getattr(entry, name) for entry in found]
    return None if any(value is None for value in values) else np.array(values, dtype=float)


def _vectors(found: Sequence[Prediction]) -> Floats | None:
    sizes = {None if entry.features is None else len(entry.features) for entry in found}
    if None in sizes or len(sizes) != 1:
        return None
    return np.array([entry.features for entry in found], dtype=float)


def _flags(values: Sequence[bool | None]) -> Floats | None:
    if all(value is None for value in values):
        return None
    return np.array([np.nan if value is None else float(value) for value in values])
