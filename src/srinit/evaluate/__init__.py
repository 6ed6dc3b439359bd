"""Per-example outcomes of a model over a loader, and the scores they are made of."""

from srinit.evaluate.agreement import Labeled, labeled_by
from srinit.evaluate.anomaly import Anomaly, FitsGoodParts
from srinit.evaluate.batch_splitter import BatchSplitter
from srinit.evaluate.batches import (
    batches_of,
    check_rereadable,
    inputs_and_target,
    inputs_of,
)
from srinit.evaluate.detection import Detection
from srinit.evaluate.loop import Progress, evaluate
from srinit.evaluate.losses import LOSSES, CrossEntropy, Loss, loss_for
from srinit.evaluate.outcomes import Outcomes, load_outcomes, save_outcomes
from srinit.evaluate.reading import MORE_IS_BETTER, PartTask, Reading
from srinit.evaluate.scorers import (
    NEXT_TOKEN,
    SCORERS,
    Scorer,
    agreement,
    image_iou,
    next_token_accuracy,
    next_token_probability,
    predicted,
    scored,
    token_accuracy,
    top1,
    unwrapped,
)
from srinit.evaluate.segmentation import Segmentation
from srinit.evaluate.soundness import Suspicion, suspicions
from srinit.evaluate.tasks import TASKS, find_scorer

__all__ = [
    "LOSSES",
    "MORE_IS_BETTER",
    "NEXT_TOKEN",
    "SCORERS",
    "TASKS",
    "Anomaly",
    "BatchSplitter",
    "CrossEntropy",
    "Detection",
    "FitsGoodParts",
    "Labeled",
    "Loss",
    "Outcomes",
    "PartTask",
    "Progress",
    "Reading",
    "Scorer",
    "Segmentation",
    "Suspicion",
    "agreement",
    "batches_of",
    "check_rereadable",
    "evaluate",
    "find_scorer",
    "image_iou",
    "inputs_and_target",
    "inputs_of",
    "labeled_by",
    "load_outcomes",
    "loss_for",
    "next_token_accuracy",
    "next_token_probability",
    "predicted",
    "save_outcomes",
    "scored",
    "suspicions",
    "token_accuracy",
    "top1",
    "unwrapped",
]
