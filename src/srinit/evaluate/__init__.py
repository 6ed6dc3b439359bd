"""Per-example outcomes of a model over a loader, and the scores they are made of."""

from srinit.evaluate.agreement import Labeled, labeled_by
from srinit.evaluate.loop import Progress, evaluate
from srinit.evaluate.outcomes import Outcomes, load_outcomes, save_outcomes
from srinit.evaluate.parts import Parts
from srinit.evaluate.scorers import (
    SCORERS,
    Scorer,
    agreement,
    find_scorer,
    image_iou,
    next_token_accuracy,
    predicted,
    scored,
    token_accuracy,
    top1,
)
from srinit.evaluate.soundness import Suspicion, suspicions

__all__ = [
    "SCORERS",
    "Labeled",
    "Outcomes",
    "Parts",
    "Progress",
    "Scorer",
    "Suspicion",
    "agreement",
    "evaluate",
    "find_scorer",
    "image_iou",
    "labeled_by",
    "load_outcomes",
    "next_token_accuracy",
    "predicted",
    "save_outcomes",
    "scored",
    "suspicions",
    "token_accuracy",
    "top1",
]
