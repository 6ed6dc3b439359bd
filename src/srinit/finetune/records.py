"""How a network was fine-tuned: the recipe, and what happened."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, get_args

from srinit.errors import ConfigError
from srinit.records import record

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["finetune", "rewind"]
TrainingPrecision = Literal["auto", "float32", "bfloat16", "float16"]

INFINITE = math.inf
MAY_BE_NONE = ("lr", "weight_decay", "patience", "ema")
LIMITS: dict[str, tuple[float, float, tuple[float, ...], str]] = {
    "epochs": (0, INFINITE, (0,), "0 or more"),
    "lr": (0, INFINITE, (), "above 0"),
    "weight_decay": (0, INFINITE, (0,), "0 or more"),
    "warmup": (0, 1, (0,), "a share in [0, 1)"),
    "label_smoothing": (0, 1, (0,), "a share in [0, 1)"),
    "distill_weight": (0, 1, (0, 1), "a share in [0, 1]"),
    "temperature": (0, INFINITE, (), "above 0"),
    "feature_weight": (0, INFINITE, (0,), "0 or more"),
    "batch_size": (1, INFINITE, (1,), "1 or more"),
    "patience": (1, INFINITE, (1,), "1 or more"),
    "ema": (0, 1, (), "a decay in (0, 1)"),
    "clip": (0, INFINITE, (), "above 0"),
}
"""Smallest and largest value of a setting, which of the two it may take, and that in words."""


@record
class Recipe:
    """How to recover after a cut; the defaults suit a small cut of a trained classifier.

    Raises:
        ConfigError: A setting makes no sense; all of them are named.
    """

    epochs: float = 5.0  # passes over the training data
    optimizer: Optimizer = "sgd"
    lr: float | None = None  # peak; None: 0.02 sgd, 5e-4 adamw; rewind 0.1, 2e-3
    weight_decay: float | None = None  # None: 5e-4 for sgd, 0.02 for adamw; not on norms, biases
    warmup: float = 0.1  # share of the steps, linear; then cosine to 0
    label_smoothing: float = 0.0
    distill_weight: float = 0.5  # share of the loss that copies the teacher
    temperature: float = 2.0
    feature_weight: float = 0.0  # of the distance to the teacher's features, added to the loss
    schedule: Schedule = "finetune"  # rewind: the high rate of a first training
    batch_size: int = 128
    patience: int | None = None  # validations without gain before stopping
    ema: float | None = None  # decay of averaged weights
    clip: float = 5.0  # largest norm of a gradient
    precision: TrainingPrecision = "auto"  # of the forward pass; bfloat16 on a GPU, else float32

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ConfigError("the recipe of fine-tuning: " + "; ".join(problems) + ".")

    def _problems(self) -> Iterator[str]:
        words = {"optimizer": Optimizer, "schedule": Schedule, "precision": TrainingPrecision}
        for name, known in words.items():
            value = getattr(self, name)
            if value not in get_args(known):
                yield f"{name} is one of {', '.join(get_args(known))}, not {value!r}"
        for name, (low, high, closed, what) in LIMITS.items():
            value = getattr(self, name)
            if value is None and name in MAY_BE_NONE:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool)
            inside = number and math.isfinite(value) and low <= value <= high
            if not inside or (value in (low, high) and value not in closed):
                yield f"{name} is {what}, not {value!r}"
        for name in ("batch_size", "patience"):
            if isinstance(getattr(self, name), float):
                yield f"{name} is a whole number, not {getattr(self, name)!r}"

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


def nothing_to_do(recipe: Recipe) -> TuneLog:
    """Return the record of a fine-tuning that takes no step."""
    return TuneLog(
        recipe=recipe,
        points=(),
        steps=0,
        best_step=0,
        score_before=None,
        score_after=None,
        stopped="nothing to do",
    )
