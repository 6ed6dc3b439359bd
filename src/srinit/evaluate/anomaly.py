"""Detectors of anomalies: how far a part is from good ones, and whether that is too far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from srinit.errors import ConfigError, DataError
from srinit.evaluate.reading import Reading
from srinit.evaluate.scorers import scored

# B batch


@runtime_checkable
class FitsGoodParts(Protocol):
    """A network that learns from good parts alone what is normal, such as a bank of features."""

    def fit_good(self, batches: Iterable[Tensor]) -> None:
        """Learn anew from batches of good parts, threshold included, in place and without chance.

        Args:
            batches: Inputs; they can be read again.
        """
        ...


@dataclass(frozen=True)
class Anomaly:
    """Whether a part is called what it is: good, or one of the defects, whatever which.

    The network gives one number a part, above 0 where it is too far from good ones. The first class
    of the data is the good one; a defect that is called is counted for its own class.

    Attributes:
        class_names: The good one first.

    Example:
        >>> Anomaly()(torch.tensor([-1.0, 2.0, -0.5]), torch.tensor([0, 3, 1]))
        tensor([1., 1., 0.])
    """

    class_names: tuple[str, ...] = ()

    def __call__(self, output: object, target: object) -> Tensor:
        """Return 1.0 for every part that is called what it is.

        Raises:
            DataError: These are not one number and one class a part.
        """
        values, wanted = _fitted(output, target)
        return ((values > 0) == (wanted > 0)).float()

    def check(self, output: object) -> None:
        """Raise `DataError` unless a network gives one number a part, and parts have classes."""
        _fitted(output, None)
        if not self.class_names:
            raise DataError("score: anomaly needs parts of named classes, the good one first.")

    def loss(self, label_smoothing: float) -> Any:
        """Refuse: what is normal is fitted, not trained.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError(
            "a detector of anomalies has no loss: after the cut its `fit_good` learns anew what is "
            "normal. Criteria by gradients (taylor) cannot be taken of it."
        )

    def of_classes(self, names: Sequence[str], settings: Mapping[str, Any]) -> Anomaly:
        """Return the task with the names of its classes."""
        return replace(self, class_names=tuple(names))

    def read(self, output: object, target: object) -> Reading:
        """Return what is said of parts; the confidence is the sigmoid of the number's size."""
        values, wanted = _fitted(output, target)
        called = values > 0
        return Reading(
            targets=wanted.cpu().numpy(),
            predictions=torch.where(called, wanted.clamp(min=1), 0).cpu().numpy(),
            confidence=values.abs().sigmoid().double().cpu().numpy(),
            counts=np.empty(0),
            evidence=values.double().cpu().numpy(),
        )

    def marks(self, output: object, target: object, size: tuple[int, int]) -> None:
        """Return None: a number says nothing of where."""


def _fitted(output: object, target: object) -> tuple[Tensor, Tensor]:
    """Return one number and one class a part; no target: good."""
    values = scored(output, "anomaly")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(
            f"score: anomaly needs one number a part, (B,) or (B, 1), and the model returns "
            f"{tuple(values.shape)}."
        )
    if target is None:
        return values.nan_to_num(0.0), torch.zeros(len(values), dtype=torch.long)
    if not isinstance(target, Tensor) or target.shape != values.shape:
        shape = tuple(target.shape) if isinstance(target, Tensor) else type(target).__name__
        raise DataError(f"score: anomaly needs one class a part, found {shape}.")
    return values.nan_to_num(0.0), target.to(values.device, torch.long)
