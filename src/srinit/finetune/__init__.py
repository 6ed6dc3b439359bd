"""Recovery after a cut: recalibration, fine-tuning, or the user's own training."""

from srinit.compensation.recalibrate import recalibrate
from srinit.finetune.auto import auto_recipe
from srinit.finetune.external import run_command, run_function
from srinit.finetune.loop import fine_tune
from srinit.finetune.loss import Loss, next_token_loss
from srinit.finetune.records import Recipe, TuneLog, TunePoint

__all__ = [
    "Loss",
    "Recipe",
    "TuneLog",
    "TunePoint",
    "auto_recipe",
    "fine_tune",
    "next_token_loss",
    "recalibrate",
    "run_command",
    "run_function",
]
