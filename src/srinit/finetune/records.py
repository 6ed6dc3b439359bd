"""How a network was fine-tuned: the recipe, and what happened."""

from __future__ import annotations

from typing import Literal

from srinit.records import record


@record
class Recipe:
    """How to recover after a cut; the defaults suit a small cut of a trained classifier."""

    epochs: float = 5.0  # passes over the training data
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float | None = None  # peak; None: 0.02 sgd, 5e-4 adamw; rewind 0.1, 2e-3
    weight_decay: float | None = None  # None: 5e-4 for sgd, 0.02 for adamw; not on norms, biases
    warmup: float = 0.1  # share of the steps, linear; then cosine to 0
    label_smoothing: float = 0.0
    distill_weight: float = 0.5  # share of the loss that copies the teacher
    temperature: float = 2.0
    feature_weight: float = 0.0  # of the distance to the teacher's features, added to the loss
    schedule: Literal["finetune", "rewind"] = (
        "finetune"  # rewind: the high rate of a first training
    )
    batch_size: int = 128
    patience: int | None = None  # validations without gain before stopping
    ema: float | None = None  # decay of averaged weights
    clip: float = 5.0  # largest norm of a gradient
    precision: Literal["auto", "float32", "bfloat16", "float16"] = (
        "auto"  # of the forward pass; auto: bfloat16 on a GPU, float32 elsewhere
    )

    @property
    def peak_lr(self) -> float:
        """The peak learning rate.

        `rewind` goes back to the rate of a first training, as Renda et al. found better after
        pruning: https://arxiv.org/abs/2003.02389
        """
        if self.lr is not None:
            return self.lr
        high = self.schedule == "rewind"
        return {"sgd": 0.1 if high else 0.02, "adamw": 2e-3 if high else 5e-4}[self.optimizer]

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
    part_size: int | None = None  # examples that fitted into memory at once; None: whole batches
