"""Per-example outcomes of one forward, and their compact form in the journal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from srinit.evaluate import Scorer
from srinit.evaluate.loop import outcome_of
from srinit.records import record


@record
class BatchOutcomes:
    """What came out for some examples, in order."""

    scores: tuple[float, ...]  # in [0, 1]
    predictions: tuple[int, ...] | None  # -1: not finite; None: the task has no classes
    nonfinite: int  # examples whose output holds NaN or infinity

    @classmethod
    def joined(cls, parts: Sequence[BatchOutcomes]) -> BatchOutcomes:
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
        scores: object = "".join(str(int(s)) for s in self.scores) if binary else list(self.scores)
        predictions = None if self.predictions is None else list(self.predictions)
        return {"scores": scores, "predictions": predictions, "nonfinite": self.nonfinite}

    @classmethod
    def from_line(cls, line: dict[str, Any]) -> BatchOutcomes:
        """Return what `to_line` wrote."""
        predictions = line["predictions"]
        return cls(
            scores=tuple(float(score) for score in line["scores"]),
            predictions=None if predictions is None else tuple(predictions),
            nonfinite=line["nonfinite"],
        )


def score_batch(
    output: object, target: object, scorer: Scorer, within: Tensor | None = None
) -> BatchOutcomes:
    """Return the outcomes of a forward; see `srinit.evaluate.loop.outcome_of`."""
    found = outcome_of(output, target, scorer, within=within, confidence=False)
    has_classes = len(found.predictions) == found.num_examples
    return BatchOutcomes(
        scores=tuple(found.scores.tolist()),
        predictions=tuple(found.predictions.tolist()) if has_classes else None,
        nonfinite=int((~found.finite).sum()),
    )


def classes_of(target: object) -> tuple[int, ...] | None:
    """Return the class index of every example, where targets are that."""
    if isinstance(target, Tensor) and target.ndim == 1 and not target.is_floating_point():
        return tuple(int(index) for index in target.tolist())
    return None
