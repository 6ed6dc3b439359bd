"""What is watched: the answers of a model and simple properties of its inputs, per example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
FAILED, LEFT_OUT, LATE_LABEL = -1, -2, -3


@dataclass(frozen=True)
class Observations:
    """Arrays with one entry an example; what is None was not observed, nor what is NaN.

    `agrees` and `right` are 1, 0, or NaN where nobody knows. An entry whose prediction is below 0
    is no example: `FAILED`, `LEFT_OUT`, or a `LATE_LABEL` of an earlier one.
    """

    prediction: npt.NDArray[np.int64]
    confidence: Floats
    brightness: Floats | None = None
    contrast: Floats | None = None
    sharpness: Floats | None = None
    features: Floats | None = None  # (N, D)
    agrees: Floats | None = None  # with the unpruned network
    right: Floats | None = None
    time: Floats | None = None  # seconds since 1970

    def __len__(self) -> int:
        return len(self.prediction)

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """Which entries are examples."""
        return self.prediction >= 0

    def part(self, chosen: object) -> Observations:
        """Return some of the examples: a slice, positions or a mask."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        kept: dict[str, Any] = {k: None if v is None else v[chosen] for k, v in values.items()}
        return Observations(**kept)


def joined(parts: Sequence[Observations]) -> Observations:
    """Return observations one after the other; what one part lacks is NaN there."""
    found: dict[str, Any] = {}
    for field in fields(Observations):
        columns = [getattr(part, field.name) for part in parts]
        there = next((column for column in columns if column is not None), None)
        if there is not None:
            found[field.name] = np.concatenate(
                [
                    np.full((len(part), *there.shape[1:]), np.nan) if column is None else column
                    for part, column in zip(parts, columns, strict=True)
                ]
            )
    return Observations(**found)


def to_plain(observed: Observations) -> dict[str, Any]:
    """Return observations as JSON; what is not known is null."""
    found: dict[str, Any] = {}
    for name, values in vars(observed).items():
        found[name] = None
        if values is not None:
            table = values.astype(object)
            table[np.isnan(values)] = None
            found[name] = table.tolist()
    return found


def from_plain(body: dict[str, Any]) -> Observations:
    """Return what `to_plain` wrote."""
    found = {k: None if v is None else np.array(v, dtype=float) for k, v in body.items()}
    prediction = np.array(body["prediction"], dtype=np.int64)
    return Observations(**{**found, "prediction": prediction})  # type: ignore[arg-type]
