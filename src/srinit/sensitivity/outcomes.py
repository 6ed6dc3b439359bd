"""Per-example outcomes of one forward, and their compact form in the journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from srinit import modules
from srinit.errors import DataError
from srinit.evaluate import Scorer
from srinit.records import record


@record
class Rows:
    """What came out for some examples, in order."""

    scores: tuple[float, ...]  # in [0, 1]
    predictions: tuple[int, ...] | None  # -1: not finite; None: the task has no classes
    nonfinite: int  # examples whose output holds NaN or infinity

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """Return several as one."""
        classes = all(part.predictions is not None for part in parts)
        return cls(
            scores=tuple(score for part in parts for score in part.scores),
            predictions=tuple(p for part in parts for p in part.predictions or ())
            if classes
            else None,
            nonfinite=sum(part.nonfinite for part in parts),
        )

    def to_line(self) -> dict[str, Any]:
        """Return the JSON form: scores that are all 0 or 1 become a string of digits."""
        binary = all(score in (0.0, 1.0) for score in self.scores)
        scores: Any = "".join(str(int(s)) for s in self.scores) if binary else list(self.scores)
        predictions = None if self.predictions is None else list(self.predictions)
        return {"scores": scores, "predictions": predictions, "nonfinite": self.nonfinite}

    @classmethod
    def from_line(cls, line: dict[str, Any]) -> Rows:
        """Return what `to_line` wrote."""
        predictions = line["predictions"]
        return cls(
            scores=tuple(float(score) for score in line["scores"]),
            predictions=None if predictions is None else tuple(predictions),
            nonfinite=line["nonfinite"],
        )


def rows_of(output: Any, target: Any, scorer: Scorer) -> Rows:
    """Return the outcomes of a forward; an output that is not finite counts as wrong.

    Raises:
        DataError: Scores are not one a example in [0, 1], or the target does not fit the output.
    """
    logits = modules.logits_of(output)
    one_class = (
        logits.ndim == 2
        and isinstance(target, Tensor)
        and target.ndim == 1
        and not target.is_floating_point()
    )
    if one_class and len(target) and int(target.max()) >= logits.shape[1]:
        raise DataError(
            f"the data has class index {int(target.max())}, but the model has "
            f"{logits.shape[1]} outputs (0 to {logits.shape[1] - 1})."
        )
    finite_B = torch.isfinite(logits).flatten(1).all(1)
    scores_B = scorer(output, target).detach().to(finite_B.device, torch.float64)
    if scores_B.shape != finite_B.shape:
        raise DataError(
            f"the scorer returned shape {tuple(scores_B.shape)} for {len(finite_B)} examples; "
            "it must return one score in [0, 1] for each."
        )
    scores_B = torch.where(finite_B & torch.isfinite(scores_B), scores_B, 0.0)
    if len(scores_B) and not 0 <= float(scores_B.min()) <= float(scores_B.max()) <= 1:
        raise DataError(
            f"the scorer returned {float(scores_B.min())} to {float(scores_B.max())}; the "
            "intervals need scores in [0, 1]."
        )
    predictions = None
    if one_class:
        found_B = torch.where(finite_B, logits.argmax(1), -1)
        predictions = tuple(int(index) for index in found_B.tolist())
    return Rows(
        scores=tuple(scores_B.tolist()),
        predictions=predictions,
        nonfinite=int((~finite_B).sum()),
    )


def classes_of(target: Any) -> tuple[int, ...] | None:
    """Return the class index of every example, where targets are that."""
    if isinstance(target, Tensor) and target.ndim == 1 and not target.is_floating_point():
        return tuple(int(index) for index in target.tolist())
    return None
