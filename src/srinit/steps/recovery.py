"""How a run recovers: the recipe its config asks for, and what is to be expected beforehand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from srinit import modules
from srinit.comparison import compare_outcomes
from srinit.config import Config, RecipeSettings
from srinit.distributed import by_itself
from srinit.engine import faster_copy, has_fast_bfloat16
from srinit.errors import ConfigError
from srinit.evaluate import Anomaly, Detection, FitsGoodParts, evaluate
from srinit.finetune import Recipe, TuneLog, auto_recipe, fine_tune
from srinit.finetune.arithmetic import lay_out
from srinit.plan import PrunePlan
from srinit.records import Interval
from srinit.runs.records import TrialFineTuning
from srinit.sources import Augment, DataSet
from srinit.steps.task import Execution, Task
from srinit.trialbench import NOTHING


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
        """The recipe of the config; `finetune: auto` looks at the size of the data."""
        settings = self.config.finetune
        given = Recipe(**{name: getattr(settings, name) for name in RecipeSettings.model_fields})
        if not self.copies:
            given = given.changed(distill_weight=0.0)
        if not self.trains:
            return given.changed(epochs=0)
        if settings.recipe != "auto" or given.epochs == 0 or self.train is None:
            return given
        return auto_recipe(len(self.train), validated=self.validation is not None, given=given)

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
        return self.train is not None and (settings.fn is not None or settings.epochs > 0)

    @property
    def augment(self) -> Augment:
        """The random changes of training images that the config asks for."""
        settings = self.config.data.augment
        return Augment(crop_padding=settings.crop_padding, flip=settings.flip)

    def few_steps(self, steps: int) -> Callable[[nn.Module], TuneLog] | None:
        """Return a function that recovers a network in place for so many steps of the recipe.

        None where nothing can be tried: no steps, no fine-tuning or one of the user's own, or no
        training data. Of several processes each trains by itself.
        """
        train, none = self.train, self.config.finetune.epochs == 0
        if not steps or self.fits or is_own(self.config) or none or train is None or not len(train):
            return None
        full = self.recipe
        per_epoch = len(train.batches(full.batch_size))
        cheap = full.precision == "auto" and has_fast_bfloat16(self.execution.device)
        short = full.changed(
            epochs=(steps - 0.5) / per_epoch,
            patience=None,
            ema=None,
            feature_weight=0.0,
            precision="bfloat16" if cheap else full.precision,
        )

        def recover(model: nn.Module) -> TuneLog:
            with by_itself():
                return fine_tune(
                    model,
                    train,
                    None,
                    teacher=self.teacher,
                    recipe=short,
                    loss=self.task.loss,
                    scorer=self.task.scorer,
                    augment=self.augment,
                    seed=self.execution.seed,
                )

        return recover

    def trial_fine_tuning(
        self, pruned: nn.Module, data: Sequence[tuple[Any, Any]], example_inputs: Any
    ) -> TrialFineTuning | None:
        """Return what a short recovery brings on a copy of the cut network; None if none is tried.

        Args:
            pruned: The cut network as its training will begin, compensated; not changed.
            data: Calibration batches that the trials read.
            example_inputs: One batch that the network takes.
        """
        recover = self.few_steps(self.config.finetune.rehearsal)
        if recover is None or not data:
            return None
        trained = _channels_last(copy.deepcopy(pruned))
        recover(trained)
        before, after = (
            evaluate(faster_copy(model, example_inputs), data, scorer=self.task.scorer)
            for model in (self.teacher, trained)
        )
        cost = compare_outcomes(before, after, confidence=self.task.confidence).score
        return TrialFineTuning(steps=self.config.finetune.rehearsal, cost=cost)

    def expected(self, before: TuneLog | None, trial: TrialFineTuning | None) -> str:
        """Return what is known of the recovery before it begins, and what is not.

        Args:
            before: The recovery of the round before, where there is one.
            trial: The recovery tried on a copy, where there was one.
        """
        if self.fits:
            return "Recovery: what is normal is learned anew from good parts; nothing is trained."
        if is_own(self.config):
            return "Recovery: unknown; a training of your own follows."
        chosen = self.recipe
        if chosen.epochs == 0:
            why = "finetune.epochs: 0" if self.train is not None else "there is no data.train"
            return f"Recovery: nothing is trained ({why}); the compensated network is the result."
        noun = "epoch" if chosen.epochs == 1 else "epochs"
        what = f"{chosen.epochs:g} {noun} of fine-tuning at batch {chosen.batch_size}"
        if trial is not None:
            cost = trial.cost
            left = points(self.task.confidence, cost)
            return (
                f"Expected recovery: {trial.steps} steps on a copy leave a loss of {left}; "
                f"{what} follow, and what they bring beyond that is unknown until it is measured."
            )
        if before is None or before.score_before is None or before.score_after is None:
            return f"Recovery by {what}: unknown until it is measured."
        return (
            f"Recovery by {what}: unknown; the round before went from "
            f"{100 * before.score_before:.1f} to {100 * before.score_after:.1f} % on validation "
            "data."
        )


def _channels_last(network: nn.Module) -> nn.Module:
    """Return a network of ours as it runs fastest, in place."""
    if any(type(module) is nn.Conv2d for module in network.modules()):
        lay_out(network)
    return network


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
