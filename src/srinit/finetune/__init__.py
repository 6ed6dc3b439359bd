"""Recovery after a cut: recalibration, fine-tuning, or the user's own training."""

from srinit.compensation.recalibrate import recalibrate
from srinit.finetune.auto import auto_recipe
from srinit.finetune.external import run_command, run_function
from srinit.finetune.loop import fine_tune
from srinit.finetune.records import Recipe, TuneLog, TunePoint

__all__ = [
    "Recipe",
    "TuneLog",
    "TunePoint",
    "auto_recipe",
    "fine_tune",
    "recalibrate",
    "run_command",
    "run_function",
]
