"""How a network was fine-tuned: the recipe, and what happened."""

from __future__ import annotations

from typing import Literal

from srinit.records import record


@record
class Recipe:
    """How to recover after a cut; the defaults suit a small cut of a trained classifier."""

    epochs: float = 5.0  # passes over the training data
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float | None = None  # peak; None: 0.02 for sgd, 5e-4 for adamw
    weight_decay: float | None = None  # None: 5e-4 for sgd, 0.02 for adamw; not on norms, biases
    warmup: float = 0.1  # share of the steps, linear; then cosine to 0
    label_smoothing: float = 0.0
    distill_weight: float = 0.5  # share of the loss that copies the teacher
    temperature: float = 2.0
    batch_size: int = 128
    patience: int | None = None  # validations without gain before stopping
    ema: float | None = None  # decay of averaged weights
    clip: float = 5.0  # largest norm of a gradient

    @property
    def peak_lr(self) -> float:
        """The peak learning rate."""
        return self.lr or {"sgd": 0.02, "adamw": 5e-4}[self.optimizer]

    @property
    def decay(self) -> float:
        """The weight decay."""
        if self.weight_decay is not None:
            return self.weight_decay
        return {"sgd": 5e-4, "adamw": 0.02}[self.optimizer]


@record
class TunePoint:
    """One validation during fine-tuning; before the first step too."""

    step: int
    epoch: float
    loss: float | None  # mean training loss since the point before
    lr: float
    validation_score: float | None  # a fraction
    num_examples: int


@record
class TuneLog:
    """What fine-tuning did; the best weights are in the model."""

    recipe: Recipe
    points: tuple[TunePoint, ...]
    steps: int
    best_step: int
    score_before: float | None  # on validation, before the first step
    score_after: float | None  # on validation, of the weights that were kept
    stopped: Literal["finished", "patience", "diverged", "nothing to do", "user"]
    note: str = ""
