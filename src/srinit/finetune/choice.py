"""Which recipe a network recovers by: tried for a few steps on copies, judged by held-out examples.

Every candidate is the whole schedule in small: warm-up, peak and fall to zero in as many steps as a
trial has. What it leaves is measured by the loss that is trained, on examples that are not trained
on. Rates are a factor of four apart: from the middle one the trials go up or down while that helps.
Which rule predicts the better recovery was measured: docs/finetune.md, `benchmarks/recipes.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import nn

from srinit import modules
from srinit.config.recovery import Optimizer
from srinit.evaluate import Loss, Scorer, inputs_and_target
from srinit.evaluate.losses import places_of
from srinit.finetune.checks import task_loss
from srinit.finetune.loss import combined
from srinit.finetune.records import Recipe
from srinit.records import Interval, record

FACTOR = 4.0  # between the rates
MOST_RATES = 4
SHARE = 0.25  # of the training that all trials may take
FEWEST = 5  # steps of a trial that says something
LONGER = 15  # times the steps of a trial, from which a training bears a higher rate ...
SEEN = 10  # ... if it sees its data this often at most
WORST = 4.0  # times the loss of before, left by a trial: it destroyed

How = Literal["tried", "given", "too short", "not tried", "nothing"]
Tried = Callable[[Recipe], float | None]
"""The held-out loss after the trial of a recipe; None where it is not finite."""


@record
class RecipeTrial:
    """A recipe that was tried for a few steps on a copy of the cut network."""

    optimizer: Optimizer
    lr: float  # the peak
    loss: float | None  # mean over held-out examples, of a detector 1 - score; None: not finite


@record
class RecipeChoice:
    """How a cut network is trained, and what was tried before."""

    recipe: Recipe
    how: How
    steps: int = 0  # of each trial
    before: float | None = None  # the held-out loss of the network before training
    num_examples: int = 0  # held out
    trials: tuple[RecipeTrial, ...] = ()
    is_raised: bool = False  # the rate is a step above that of the best trial
    cost: Interval | None = None  # score that the chosen trial leaves below the unpruned network
    step_seconds: float | None = None  # measured where minutes are given

    @property
    def all_harm(self) -> bool:
        """Whether every trial left a larger loss than there was before it."""
        if self.before is None or not self.trials:
            return False
        return all(each.loss is None or each.loss > self.before for each in self.trials)


def trial_steps(wanted: int, total: int, trials: int = MOST_RATES + 1) -> int:
    """Return how many steps each trial takes, so that together they stay a small part."""
    return min(wanted, int(SHARE * total / trials))


def best_recipe(
    recipe: Recipe, tried: Tried, *, both: bool
) -> tuple[Recipe, tuple[RecipeTrial, ...]]:
    """Return the recipe whose trial leaves the least loss, and all trials.

    Args:
        recipe: Its optimizer's default peak is the highest rate but one that is tried.
        tried: Tries one.
        both: Also the other optimizer is tried, at its middle rate.
    """
    found: dict[tuple[str, float], RecipeTrial] = {}

    def loss(optimizer: Optimizer, step: int) -> float:
        candidate = recipe.changed(optimizer=optimizer, lr=None)
        rate = candidate.peak_lr * FACTOR**step
        if (optimizer, rate) not in found:
            value = tried(candidate.changed(lr=rate))
            found[optimizer, rate] = RecipeTrial(optimizer=optimizer, lr=rate, loss=value)
        return _loss(found[optimizer, rate])

    best = -1
    for way in (1, -1):
        moved = False
        while len(found) < MOST_RATES and loss(recipe.optimizer, best + way) < loss(
            recipe.optimizer, best
        ):
            best, moved = best + way, True
        if moved:
            break
    if both:
        loss("adamw" if recipe.optimizer == "sgd" else "sgd", -1)
    chosen = min(found.values(), key=_loss)
    return recipe.changed(optimizer=chosen.optimizer, lr=chosen.lr), tuple(found.values())


def raised(choice: RecipeChoice, total: int) -> Recipe:
    """Return a recipe whose rate is that of a long training, where the training is one.

    A short trial prefers a low rate: a high one falls first and ends higher, if there is time and
    if there are data enough. It goes one step (`FACTOR`) up, unless the trial of that destroyed:
    left a loss that was not finite, or `WORST` times that of before. Measured for SGD alone.

    Args:
        choice: What was tried.
        total: Steps of the training.
    """
    recipe = choice.recipe
    if total < LONGER * choice.steps or recipe.epochs > SEEN:
        return recipe
    if recipe.optimizer != "sgd" or recipe.lora.r:
        return recipe
    rate = recipe.peak_lr * FACTOR
    most = math.inf if choice.before is None else WORST * choice.before
    destroyed = any(
        (each.loss is None or each.loss > most)
        and each.optimizer == recipe.optimizer
        and math.isclose(each.lr, rate)
        for each in choice.trials
    )
    return recipe if destroyed else recipe.changed(lr=rate)


def _loss(trial: RecipeTrial) -> float:
    return math.inf if trial.loss is None else trial.loss


def held_out_loss(
    model: nn.Module,
    data: Iterable[Any],
    *,
    teacher: nn.Module,
    recipe: Recipe,
    loss: Loss | None,
    scorer: Scorer,
) -> float | None:
    """Return the mean of the training's loss over examples; None where it is not finite.

    Args:
        model: In evaluation mode.
        data: Batches with targets.
        teacher: The unpruned network.
        recipe: Whose loss.
        loss: Of the task; by default that of the score.
        scorer: The score.
    """
    plain = recipe.changed(feature_weight=0.0)
    own, places = task_loss(loss, scorer, plain, teacher), places_of(scorer)
    total, count = 0.0, 0
    device = modules.device_of(model)
    with torch.no_grad():
        for batch in data:
            inputs, target = modules.to_device(inputs_and_target(batch, model), device)
            size = modules.batch_size(inputs)
            output, guide = (modules.call(each, inputs) for each in (model, teacher))
            value = combined(output, target, guide, loss=own, places=places, recipe=plain)
            total, count = total + size * float(value), count + size
    return total / count if count and math.isfinite(total) else None
