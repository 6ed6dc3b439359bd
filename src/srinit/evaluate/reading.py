"""A task beyond one class an example: how its outputs are scored, trained and counted.

A task is a score that knows more. Everything that needs a score alone (scan, trials, stopping)
calls it; where errors are counted, `read` is asked as well. What it says of the whole part, good or
which defect, makes missed defects and rejected parts, monitoring and money the same for all tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from srinit.records import record


class Mark(IntEnum):
    """What is at a place of an image."""

    NOTHING = 0
    FOUND = 1  # called, and there
    LOST = 2  # missed
    ALARM = 3  # called, and not there


MISSED, FALSE = "missed_objects", "false_alarms"  # counts that every such task has
MORE_IS_BETTER = frozenset({"dice"})  # of the counts; all others are errors


Counts = dict[str, tuple[float, float]]  # kind of error: how many of how many


@record
class Reading:
    """What outputs say of whole parts, and what was counted in them; one entry an example."""

    targets: npt.NDArray[np.int64]  # class of the part: 0 is good, else that of its largest defect
    predictions: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]  # probability of that answer
    counts: npt.NDArray[Any]  # one field a kind of error: (how many, of how many); or empty
    evidence: npt.NDArray[np.float64]  # rises with what speaks for a defect


@runtime_checkable
class PartTask(Protocol):
    """A score in [0, 1] that also reads outputs; see `srinit.evaluate.reading`."""

    def __call__(self, output: object, target: object) -> Tensor:
        """Return the scores (B,)."""
        ...

    def check(self, output: object) -> None:
        """Raise `DataError` where outputs are not what the task reads."""
        ...

    def loss(self, label_smoothing: float) -> Any:
        """Return what the task is trained with: (output, target) -> scalar."""
        ...

    def read(self, output: object, target: object) -> Reading:
        """Return what outputs say of whole parts; a target of None: nothing is known."""
        ...

    def marks(self, output: object, target: object, size: tuple[int, int]) -> Tensor | None:
        """Return `Mark` of the pixels of images of that size (B, H, W); None: nothing to draw."""
        ...

    def of_classes(self, names: Sequence[str], settings: Mapping[str, Any]) -> Self:
        """Return the task with the names of its classes, the good one first, and its settings."""
        ...


def counted(columns: Mapping[str, Sequence[tuple[float, float]]]) -> npt.NDArray[Any]:
    """Return counts by kind of error as one structured array.

    Example:
        >>> counted({"missed_objects": [(1, 2), (0, 0)]})["missed_objects"].tolist()
        [[1.0, 2.0], [0.0, 0.0]]
    """
    kind = np.dtype([(name, np.float64, (2,)) for name in columns])
    table = np.zeros(len(next(iter(columns.values()))), dtype=kind)
    for name, rows in columns.items():
        table[name] = np.asarray(rows, dtype=np.float64).reshape(-1, 2)
    return table


def by_class(found: Sequence[tuple[int, bool]], names: Sequence[str]) -> Counts:
    """Return how many objects of one example are missed of how many, in all and by class.

    Args:
        found: The class of each object, from 1 on, and whether it was found.
        names: Of the classes, the good one first.
    """
    rows: Counts = {MISSED: (float(sum(not ok for _, ok in found)), float(len(found)))}
    for index, name in enumerate(names[1:] if len(names) > 2 else (), start=1):
        own = [ok for label, ok in found if label == index]
        rows[f"{MISSED}.{name}"] = (float(own.count(False)), float(len(own)))
    return rows
