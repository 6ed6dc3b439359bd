"""Which recipe is taken: by what trials leave on examples that are not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from srinit.config import load_config
from srinit.errors import ConfigError
from srinit.evaluate import top1
from srinit.finetune import Recipe
from srinit.finetune.choice import (
    RecipeChoice,
    RecipeTrial,
    best_recipe,
    held_out_loss,
    raised,
    trial_steps,
)
from srinit.rng import isolated_rng


def valley(best: float, *, adamw: float = math.inf) -> Callable[[Recipe], float | None]:
    """Return trials whose loss grows with the distance to a rate."""

    def tried(recipe: Recipe) -> float | None:
        if recipe.optimizer == "adamw":
            return adamw if math.isfinite(adamw) else None
        return abs(math.log(recipe.peak_lr / best))

    return tried


@pytest.mark.parametrize(
    ("best", "chosen", "tried"),
    [
        (0.005, 0.005, {0.02, 0.005, 0.00125}),
        (0.02, 0.02, {0.02, 0.005, 0.08}),
        (1.0, 0.32, {0.02, 0.005, 0.08, 0.32}),
        (0.001, 0.00125, {0.02, 0.005, 0.00125, 0.0003125}),
    ],
)
def test_rates_go_up_or_down_while_that_helps(
    best: float, chosen: float, tried: set[float]
) -> None:
    recipe, trials = best_recipe(Recipe(batch_size=32), valley(best), both=False)
    assert recipe == Recipe(batch_size=32, lr=chosen)
    assert {trial.lr for trial in trials} == tried


def test_the_other_optimizer_is_tried_at_its_middle_rate() -> None:
    recipe, trials = best_recipe(Recipe(), valley(0.005, adamw=-1.0), both=True)
    assert (recipe.optimizer, recipe.lr) == ("adamw", 1.25e-4)
    assert trials[-1] == RecipeTrial(optimizer="adamw", lr=1.25e-4, loss=-1.0)


def test_a_recipe_that_destroys_is_never_taken() -> None:
    losses = {0.02: None, 0.005: 2.0, 0.00125: 1.0, 0.0003125: None}
    recipe, trials = best_recipe(Recipe(), lambda r: losses[r.peak_lr], both=False)
    assert recipe.lr == 0.00125
    assert len(trials) == 4


def test_trials_stay_a_small_part_of_the_training() -> None:
    assert trial_steps(20, 2000) == 20
    assert trial_steps(20, 200) == 10
    assert trial_steps(20, 30) == 1  # too few to say something


def test_a_choice_knows_when_every_trial_did_harm() -> None:
    trials = tuple(RecipeTrial(optimizer="sgd", lr=r, loss=loss) for r, loss in ((1, None), (2, 3)))
    choice = RecipeChoice(recipe=Recipe(), how="tried", before=2.0, trials=trials)
    assert choice.all_harm
    assert not replace(choice, before=4.0).all_harm
    assert not replace(choice, trials=()).all_harm


def test_the_held_out_loss_is_that_of_the_training_and_weighs_examples_alike() -> None:
    with isolated_rng(0):
        teacher, model = nn.Linear(4, 3), nn.Linear(4, 3)
        x, y = torch.randn(10, 4), torch.randint(0, 3, (10,))
    recipe = Recipe(distill_weight=0.25, temperature=3.0)

    def loss(batches: list[tuple[torch.Tensor, torch.Tensor]], network: nn.Module = model) -> float:
        found = held_out_loss(
            network, batches, teacher=teacher, recipe=recipe, loss=None, scorer=top1
        )
        return math.nan if found is None else found

    with torch.no_grad():
        task = nn.functional.cross_entropy(model(x), y)
        soft = nn.functional.kl_div(
            (model(x) / 3).log_softmax(1), (teacher(x) / 3).log_softmax(1),
            reduction="batchmean", log_target=True,
        )  # fmt: skip
    assert loss([(x, y)]) == pytest.approx(float(0.75 * task + 0.25 * 9 * soft), rel=1e-5)
    assert loss([(x[:7], y[:7]), (x[7:], y[7:])]) == pytest.approx(loss([(x, y)]), rel=1e-5)
    with torch.no_grad():
        model.weight.fill_(math.nan)
    assert math.isnan(loss([(x, y)]))


def test_epochs_and_minutes_are_not_both_taken(tmp_path: Path) -> None:
    file = tmp_path / "srinit.yaml"
    file.write_text(
        "model: {source: 'py:m.py:f'}\ndata: {source: 'npz:d.npz'}\n"
        "finetune: {epochs: 2, minutes: 3}\n"
    )
    with pytest.raises(ConfigError, match="epochs and minutes are both given"):
        load_config(file)
    file.write_text("model: {source: 'py:m.py:f'}\ndata: {source: 'npz:d.npz'}\n")
    assert load_config(file, ["finetune.minutes=0.5"]).finetune.minutes == 0.5


def test_a_long_training_that_sees_its_data_few_times_takes_the_next_rate() -> None:
    best = Recipe(lr=0.005, epochs=7)

    def rate(recipe: Recipe = best, *, left: float | None = 3.0, total: int = 2000) -> float | None:
        trial = RecipeTrial(optimizer="sgd", lr=0.02, loss=left)
        choice = RecipeChoice(recipe=recipe, how="tried", steps=20, before=1.0, trials=(trial,))
        return raised(choice, total).lr

    assert rate() == 0.02
    assert rate(total=299) == 0.005
    assert rate(best.changed(epochs=11)) == 0.005
    assert rate(best.changed(optimizer="adamw")) == 0.005
    assert rate(left=None) == rate(left=40.0) == 0.005
