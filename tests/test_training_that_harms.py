"""A training that destroys goes back, says so, and delivers what it began with."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from srinit.finetune import Recipe, TuneLog, fine_tune
from srinit.rng import isolated_rng
from srinit.steps.pruning import harm_of


def problem() -> tuple[nn.Module, list[Any], list[Any]]:
    """Return a network that is right nearly everywhere, and data whose targets it knows."""
    generator = torch.Generator().manual_seed(0)
    with isolated_rng(0):
        model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    x = torch.randn(640, 6, generator=generator)
    with torch.no_grad():
        y = model(x).argmax(1)
    wrong = torch.randint(0, 3, (320,), generator=generator)  # what is trained on says otherwise
    train = [(x[i : i + 32], wrong[i : i + 32]) for i in range(0, 320, 32)]
    return model, train, [(x[320:], y[320:])]


def tuned(**settings: Any) -> tuple[nn.Module, TuneLog]:
    model, train, validation = problem()
    recipe = Recipe(lr=3.0, distill_weight=0.0, warmup=0.0, **settings)
    return model, fine_tune(model, train, validation, recipe=recipe)


def test_training_that_destroys_goes_back_at_a_smaller_rate() -> None:
    start, _, _ = problem()
    model, log = tuned(epochs=4)
    first = log.fall_backs[0]
    assert (first.step, first.best, first.factor) == (20, 1.0, 0.25)  # not before half of them
    assert first.score < 0.9
    rates = {point.step: point.lr for point in log.points}
    assert rates[30] < 0.25 * 3.0
    assert log.gained_nothing
    assert log.score_after == 1.0
    found = model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in start.state_dict().items())


def test_a_schedule_that_is_meant_to_fall_is_left_alone() -> None:
    assert tuned(epochs=3, schedule="rewind")[1].fall_backs == ()


def test_at_most_three_times_and_never_after_the_end() -> None:
    log = tuned(epochs=9)[1]
    assert 1 <= len(log.fall_backs) <= 3
    assert tuned(epochs=1)[1].fall_backs == ()


def test_a_training_that_fell_back_goes_on_bit_for_bit_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srinit.finetune.loop.CHECKPOINT_STEPS", 1)
    start, train, validation = problem()
    recipe = Recipe(lr=3.0, distill_weight=0.0, warmup=0.0, epochs=3, ema=0.9)

    class StopError(Exception):
        pass

    def stop(step: int, *_: object) -> None:
        if step == 23:
            raise StopError

    whole, halved = copy.deepcopy(start), copy.deepcopy(start)
    wanted = fine_tune(whole, train, validation, recipe=recipe)
    state = tmp_path / "state.safetensors"
    with pytest.raises(StopError):
        fine_tune(halved, train, validation, recipe=recipe, state=state, on_progress=stop)
    found = fine_tune(halved, train, validation, recipe=recipe, state=state)
    assert found.fall_backs == wanted.fall_backs != ()
    assert found.points == wanted.points


def test_a_run_says_what_its_training_destroyed_and_what_to_try() -> None:
    lines = harm_of(tuned(epochs=4)[1])
    assert lines[0].startswith("WARNING: after step 20 validation was at ")
    assert "down from 100.0 %" in lines[0]
    assert "did not improve the network (best step 0)" in lines[-1]
    assert "finetune.lr: " in lines[-1]
    model, train, validation = problem()
    with torch.no_grad():
        right = [(x, model(x).argmax(1)) for x, _ in train]
        nn.init.normal_(model[0].weight, generator=torch.Generator().manual_seed(1))
    assert harm_of(fine_tune(model, right, validation, recipe=Recipe(epochs=3, lr=0.05))) == []
