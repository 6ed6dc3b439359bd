"""How the cut network will be trained: recipes are tried on copies of it."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from srinit import records
from srinit.comparison import compare_outcomes
from srinit.engine import faster_copy
from srinit.evaluate import evaluate
from srinit.finetune import Recipe
from srinit.finetune.choice import (
    FEWEST,
    MOST_RATES,
    How,
    RecipeChoice,
    RecipeTrial,
    best_recipe,
    held_out_loss,
    raised,
    trial_steps,
)
from srinit.finetune.stream import num_batches
from srinit.plan import PrunePlan
from srinit.records import Interval
from srinit.runs import artifacts, processes
from srinit.steps.pruning import Before
from srinit.steps.recovery import Recovery, careful, is_own, points
from srinit.steps.table import step
from srinit.steps.trials import Trials

VALIDATION = 0.25  # time of an example that is only asked, in those that are trained on
LARGE = 64 << 20  # bytes of weights from which the memory of a training is said
TIMED = 10  # steps, where minutes say how long is trained
MIN_STEPS = 10  # of a training; in a time for fewer nothing is trained


@step(
    artifacts.TRAINING,
    part="recovery",
    together=True,
    keys={"trials": (), "recovery": ("finetune",)},
)
def training(
    before: Before, pruned: nn.Module, round_plan: PrunePlan, recovery: Recovery, trials: Trials
) -> RecipeChoice:
    """Return the recipe of the training to come; rank 0 tries, and the others are told."""
    nothing = set(round_plan.names) <= set(before.gone)

    def chosen() -> str:
        return records.to_json(
            _chosen(pruned, recovery, trials, nothing=nothing), schema=artifacts.TRAINING_SCHEMA
        )

    text = processes.text_of_first(chosen)
    found = records.from_json(RecipeChoice, text, schema=artifacts.TRAINING_SCHEMA)
    if not nothing:
        recovery.execution.observer.say(expected(recovery, found))
        is_large = sum(each.nbytes for each in pruned.parameters()) >= LARGE
        needed = recovery.memory(pruned, found.recipe) if is_large else None
        if needed is not None:
            recovery.execution.observer.say(needed.words())
    return found


def _chosen(
    pruned: nn.Module, recovery: Recovery, trials: Trials, *, nothing: bool
) -> RecipeChoice:
    recipe, settings = recovery.recipe, recovery.config.finetune
    train = recovery.train
    if is_own(recovery.config):
        return RecipeChoice(recipe=recipe, how="given")
    if nothing or recipe.epochs == 0 or train is None:
        return RecipeChoice(recipe=recipe.changed(epochs=0), how="nothing")
    is_given = recipe.lr is not None or recipe.schedule == "rewind"
    seconds = None
    if settings.minutes is not None:
        epochs, seconds = _in_time(settings.minutes, careful(recipe), pruned, recovery)
        recipe = recipe.changed(epochs=epochs)
    total = int(recipe.epochs * num_batches(train, recipe))
    steps = trial_steps(settings.rehearsal, total, 1 if is_given else MOST_RATES + 1)
    tries = settings.rehearsal > 0 and trials.settings.trial_examples > 0
    if not tries or steps < min(FEWEST, settings.rehearsal):
        how: How = "too short" if tries else "not tried"
        found = RecipeChoice(recipe=careful(recipe), how="given" if is_given else how)
    else:
        found = _Tries(pruned, recovery, trials.data[0], trials.example_inputs, steps).choice(
            recipe, is_given=is_given
        )
    longer = raised(found, total) if found.how == "tried" else found.recipe
    return replace(found, recipe=longer, is_raised=longer != found.recipe, step_seconds=seconds)


class _Tries:
    """Trains copies of a network for a few steps, and keeps the one that did best."""

    def __init__(
        self,
        pruned: nn.Module,
        recovery: Recovery,
        data: Sequence[tuple[Any, Any]],
        example_inputs: Any,
        steps: int,
    ) -> None:
        self.pruned, self.recovery, self.data = pruned, recovery, data
        self.inputs, self.steps = example_inputs, steps
        self.teacher = faster_copy(recovery.teacher, example_inputs)
        self.best: tuple[float, nn.Module] | None = None

    def choice(self, recipe: Recipe, *, is_given: bool) -> RecipeChoice:
        """Return the recipe that did best; one whose rate is given is only tried."""
        task = self.recovery.task
        start = self.loss(faster_copy(self.pruned, self.inputs), recipe)
        chosen, tried = recipe, tuple[RecipeTrial, ...]()
        if is_given:
            self.tried(recipe)
        else:
            both = self.recovery.config.finetune.optimizer is None and not recipe.lora.r
            chosen, tried = best_recipe(recipe, self.tried, both=both)
        cost = None
        if self.best is not None:
            first, second = (
                evaluate(network, self.data, scorer=task.scorer)
                for network in (self.teacher, self.best[1])
            )
            lost = compare_outcomes(first, second, confidence=task.confidence).score
            cost = Interval(
                value=lost.value, low=lost.low, high=lost.high, confidence=lost.confidence
            )
        return RecipeChoice(
            recipe=chosen,
            how="given" if is_given else "tried",
            steps=self.steps,
            before=start,
            num_examples=sum(len(target) for _, target in self.data),
            trials=tried,
            cost=cost,
        )

    def tried(self, recipe: Recipe) -> float | None:
        """Return the held-out loss that a short training leaves."""
        model = copy.deepcopy(self.pruned)
        self.recovery.short(recipe, self.steps)(model)
        ready = faster_copy(model, self.inputs)
        found = self.loss(ready, recipe)
        if found is not None and (self.best is None or found < self.best[0]):
            self.best = (found, ready)
        return found

    def loss(self, model: nn.Module, recipe: Recipe) -> float | None:
        """Return the loss of a network on the held-out examples; of a detector 1 - its score."""
        task = self.recovery.task
        if not self.recovery.copies:
            return 1 - evaluate(model, self.data, scorer=task.scorer).score
        return held_out_loss(
            model,
            self.data,
            teacher=self.teacher,
            recipe=recipe,
            loss=task.loss,
            scorer=task.scorer,
        )


def _in_time(
    minutes: float, recipe: Recipe, pruned: nn.Module, recovery: Recovery
) -> tuple[float, float]:
    """Return the epochs of a recipe that fit into a time, and the seconds of a step."""
    train = recovery.train
    assert train is not None
    trained, model = recovery.short(recipe, TIMED), copy.deepcopy(pruned)
    began = time.perf_counter()
    steps = trained(model).steps
    each = (time.perf_counter() - began) / steps
    per_epoch = num_batches(train, recipe)
    asked = 0 if recovery.validation is None else len(recovery.validation)
    validated = each * VALIDATION * asked / recipe.batch_size
    epochs = 60 * minutes / (per_epoch * each + validated)
    return (epochs if epochs * per_epoch >= MIN_STEPS else 0.0), each


def expected(recovery: Recovery, choice: RecipeChoice) -> str:
    """Return what is known of the recovery before it begins, and what is not."""
    if recovery.fits:
        return "Recovery: what is normal is learned anew from good parts; nothing is trained."
    if is_own(recovery.config):
        return "Recovery: unknown; a training of your own follows."
    recipe = choice.recipe
    if recipe.epochs == 0:
        why = "finetune.epochs: 0" if recovery.train is not None else "there is no data.train"
        if recovery.config.finetune.minutes is not None and choice.step_seconds is not None:
            why = f"finetune.minutes leave no time for {MIN_STEPS} steps"
        return f"Recovery: nothing is trained ({why}); the compensated network is the result."
    noun = "epoch" if recipe.epochs == 1 else "epochs"
    what = (
        f"{recipe.epochs:.3g} {noun} of {_NAMES[recipe.optimizer]} at batch {recipe.batch_size}, "
        f"peak rate {recipe.peak_lr:.3g}"
    )
    lines = [f"Recovery by {what}"]
    if choice.how == "tried":
        lines.append(
            f", the best of {len(choice.trials)} recipes that were tried for {choice.steps} steps "
            "on copies"
        )
        lines.append(", one step higher for a training of this length" * choice.is_raised)
    elif choice.how == "too short":
        lines.append(", a careful rate: the training is too short to try recipes for it")
    elif choice.how == "not tried":
        lines.append(", a careful rate: no recipe was tried")
    if choice.cost is None:
        lines.append(": unknown until it is measured.")
    else:
        left = points(recovery.task.confidence, choice.cost)
        lines.append(
            f". Expected recovery: {choice.steps} steps on a copy leave a loss of {left}; what the "
            "training brings beyond that is unknown until it is measured."
        )
    if choice.all_harm:
        lines.append(
            " WARNING: every trial left a larger loss than there was before it; where training "
            "does not help, the weights before it are delivered."
        )
    return "".join(lines)


_NAMES = {"sgd": "SGD", "adamw": "AdamW"}
