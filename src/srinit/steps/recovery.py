"""How a run recovers: the recipe that its config asks for, and short trainings by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from srinit import modules
from srinit.config import Config, RecipeSettings
from srinit.distributed import by_itself
from srinit.errors import ConfigError
from srinit.evaluate import Anomaly, Detection, FitsGoodParts
from srinit.finetune import Recipe, TuneLog, auto_recipe, fine_tune
from srinit.finetune.checks import task_loss
from srinit.finetune.choice import FACTOR
from srinit.finetune.memory import TrainingMemory, training_memory
from srinit.plan import PrunePlan
from srinit.records import Interval
from srinit.sources import Augment, DataSet
from srinit.steps.task import Execution, Task
from srinit.trialbench import NOTHING

MEASURED_ON = 3  # examples


def is_own(config: Config) -> bool:
    """Return whether the user's own code or command trains."""
    return config.finetune.command is not None or config.finetune.fn is not None


@dataclass(frozen=True)
class Inputs:
    """The inputs of batches on a device; they can be read again."""

    batches: Iterable[tuple[Any, Any]]
    device: torch.device

    def __iter__(self) -> Iterator[Any]:
        return (modules.to_device(inputs, self.device) for inputs, _ in self.batches)


@dataclass(frozen=True)
class Recovery:
    """How a cut network of this run is trained."""

    teacher: nn.Module  # the unpruned network
    train: DataSet | None
    validation: DataSet | None
    config: Config
    task: Task
    execution: Execution

    @property
    def recipe(self) -> Recipe:
        """The recipe of the config; what it leaves out follows from data and network.

        Its rate, and its length where minutes are given, are chosen after the cut
        (`srinit.steps.training`).
        """
        settings = self.config.finetune
        given = {name: getattr(settings, name) for name in RecipeSettings.model_fields}
        given = {name: value for name, value in given.items() if value is not None}
        if not self.copies:
            given["distill_weight"] = 0.0
        if not self.trains:
            return Recipe(**{**given, "epochs": 0})
        count = 0 if self.train is None else len(self.train)
        return auto_recipe(count, model=self.teacher, **given)

    @property
    def fits(self) -> bool:
        """Whether what is normal is learned anew after a cut, and nothing is trained."""
        return isinstance(self.task.scorer, Anomaly)

    def fit(self, model: nn.Module) -> None:
        """Let a detector of anomalies learn from the good parts of the training data, in place.

        Raises:
            ConfigError: It cannot, or there are no such parts.
        """
        labels = None if self.train is None else self.train.labels
        good = [] if labels is None else np.flatnonzero(labels == 0).tolist()
        if self.train is None or not good:
            raise ConfigError(
                "score: anomaly learns anew from good parts after the cut; name data.train, with "
                "parts of the first class."
            )
        if not isinstance(model, FitsGoodParts):
            raise ConfigError(
                f"score: anomaly needs a network with a method fit_good(batches), and "
                f"{type(model).__name__} has none; see examples/anomaly."
            )
        model.fit_good(Inputs(self.train.subset(good).batches(self.execution.batch_size),
                              modules.device_of(model)))  # fmt: skip

    @property
    def copies(self) -> bool:
        """Whether training can copy the unpruned network's answers; not those of a detector."""
        return not isinstance(self.task.scorer, Detection)

    @property
    def trains(self) -> bool:
        """Whether anything is trained after the cut: with data to train on, or by the user."""
        settings = self.config.finetune
        if settings.command is not None:
            return True
        if self.fits:
            return False
        return self.train is not None and (settings.fn is not None or settings.epochs != 0)

    @property
    def augment(self) -> Augment:
        """The random changes of training images that the config asks for."""
        settings = self.config.data.augment
        return Augment(crop_padding=settings.crop_padding, flip=settings.flip)

    def few_steps(self, steps: int) -> Callable[[nn.Module], TuneLog] | None:
        """Return a function that recovers a network in place for so many steps of the recipe.

        None where nothing can be tried: no steps, no fine-tuning or one of the user's own, or no
        training data. Where no rate is given it is a careful one.
        """
        train, none = self.train, self.config.finetune.epochs == 0
        if not steps or self.fits or is_own(self.config) or none or train is None or not len(train):
            return None
        return self.short(careful(self.recipe), steps)

    def short(self, recipe: Recipe, steps: int) -> Callable[[nn.Module], TuneLog]:
        """Return a function that trains a network in place for so many steps of a recipe.

        Of several processes each trains by itself.
        """
        train = self.train
        assert train is not None
        per_epoch = len(train.batches(recipe.batch_size))
        brief = recipe.changed(
            epochs=(steps - 0.5) / per_epoch,
            patience=None,
            ema=None,
            feature_weight=0.0,
        )

        def recover(model: nn.Module) -> TuneLog:
            with by_itself():
                return fine_tune(
                    model,
                    train,
                    None,
                    teacher=self.teacher,
                    recipe=brief,
                    loss=self.task.loss,
                    scorer=self.task.scorer,
                    augment=self.augment,
                    seed=self.execution.seed,
                )

        return recover

    def memory(self, network: nn.Module, recipe: Recipe | None = None) -> TrainingMemory | None:
        """Return what training a network will hold in memory; None where nothing is known of it.

        Args:
            network: As its training will begin, or the unpruned one, which needs as much at most.
            recipe: Of the training; default: what the config says of it.
        """
        train, recipe = self.train, recipe or self.recipe
        if is_own(self.config) or not recipe.epochs or train is None or len(train) < MEASURED_ON:
            return None
        batch = next(iter(train.batches(MEASURED_ON)))
        scorer, teacher = self.task.scorer, self.teacher
        loss = task_loss(self.task.loss, scorer, recipe, teacher)
        return training_memory(network, batch, recipe, loss=loss, scorer=scorer, teacher=teacher)


def careful(recipe: Recipe) -> Recipe:
    """Return a recipe with a rate that short trainings bear, where none was given."""
    if recipe.lr is not None or recipe.schedule == "rewind":
        return recipe
    return recipe.changed(lr=recipe.peak_lr / FACTOR)


def expected_dip(plan: PrunePlan, confidence: float) -> str:
    """Return what is known of the loss before anything is cut, and what is not.

    Args:
        plan: What is removed, with the evidence of its trials.
        confidence: Of its intervals.
    """
    if not plan.remove:
        return "Nothing is removed."
    tried = plan.remove[-1].evidence.joint
    if tried is not None:
        how = f"trained for {tried.steps} steps" if tried.steps else "not trained"
        after = tried.after or NOTHING
        done = "nothing was done after the cut" if after == NOTHING else f"then {after}"
        return (
            f"Expected dip: {points(confidence, tried.cost)}, "
            f"measured by removing the units on a copy ({tried.num_examples} calibration examples, "
            f"the reference untouched; {done}, {how})."
        )
    return "Expected dip: unknown; the removals were not tried (plan.trial_examples: 0)."


def points(confidence: float, cost: Interval) -> str:
    """Return a loss of accuracy in points, with its interval."""
    ends = f"{100 * cost.low:.1f} to {100 * cost.high:.1f}"
    return f"{100 * (cost.value or 0.0):.1f} points, {100 * confidence:.0f} % interval {ends}"
