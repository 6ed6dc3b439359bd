"""Per-example outcomes of one forward, and their compact form in the journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
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
        if len(parts) == 1:
            return parts[0]
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


def rows_of(output: Any, target: Any, scorer: Scorer, within: Tensor | None = None) -> Rows:
    """Return the outcomes of a forward; an output that is not finite counts as wrong.

    Args:
        output: What the model returned.
        target: Its target.
        scorer: Per-example score in [0, 1].
        within: Whether what the model computed on the way was finite (B,).

    Raises:
        DataError: Scores are not one a example in [0, 1], or the target does not fit the output.
    """
    logits = modules.logits_of(output)
    one_class = (
        logits.ndim == 2
        and isinstance(target, Tensor)
        and target.ndim == 1
        and not target.is_floating_point()
        and len(target) == len(logits)
    )
    if one_class and target.device.type == "cpu":
        _check_classes(target.max().item() if len(target) else 0, logits)
    finite_B = torch.isfinite(logits).flatten(1).all(1)
    if within is not None and within.shape == finite_B.shape:
        finite_B = finite_B & within.to(finite_B.device)
    scores_B = scorer(output, target).detach().to(finite_B.device, torch.float64)
    if scores_B.shape != finite_B.shape:
        raise DataError(
            f"the scorer returned shape {tuple(scores_B.shape)} for {len(finite_B)} examples; "
            "it must return one score in [0, 1] for each."
        )
    columns = [scores_B, finite_B]
    if one_class:
        columns += [logits.argmax(1), target.to(finite_B.device)]
    # all at once, as every look at a GPU's numbers waits for it
    table = torch.stack([column.to(torch.float64) for column in columns]).cpu().numpy()
    finite = table[1] > 0
    scores = np.where(finite & np.isfinite(table[0]), table[0], 0.0)
    if len(scores) and not 0 <= scores.min() <= scores.max() <= 1:
        raise DataError(
            f"the scorer returned {scores.min()} to {scores.max()}; the "
            "intervals need scores in [0, 1]."
        )
    predictions = None
    if one_class:
        _check_classes(table[3].max(initial=0), logits)
        predictions = tuple(np.where(finite, table[2], -1).astype(int).tolist())
    return Rows(
        scores=tuple(scores.tolist()),
        predictions=predictions,
        nonfinite=int((~finite).sum()),
    )


def _check_classes(largest: float, logits: Tensor) -> None:
    if largest >= logits.shape[1]:
        raise DataError(
            f"the data has class index {int(largest)}, but the model has "
            f"{logits.shape[1]} outputs (0 to {logits.shape[1] - 1})."
        )


def classes_of(target: Any) -> tuple[int, ...] | None:
    """Return the class index of every example, where targets are that."""
    if isinstance(target, Tensor) and target.ndim == 1 and not target.is_floating_point():
        return tuple(int(index) for index in target.tolist())
    return None
