"""Fine-tuning: recovers, resumes to the same weights, and obeys its contracts."""

from __future__ import annotations

import copy
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srinit.errors import CheckpointError, ConfigError, DataError, ModelError
from srinit.evaluate import loss_for, token_accuracy
from srinit.finetune import Recipe, fine_tune, loop, recalibrate, run_command, run_function
from srinit.finetune.features import feature_loss, watched

Batches = list[tuple[Tensor, Tensor]]


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3)
        )


def task(seed: int, batches: int = 8) -> Batches:
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(batches):
        x = torch.randn(32, 4, generator=generator)
        found.append((x, x[:, :3].argmax(1)))
    return found


RECIPE = Recipe(epochs=6, lr=0.1, distill_weight=0.0)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_training_recovers_and_keeps_the_best_weights() -> None:
    model = network()
    log = fine_tune(model, task(1), task(2), recipe=RECIPE)
    assert log.score_after is not None
    assert log.score_before is not None
    assert log.score_after > max(0.8, log.score_before)
    scores = [point.validation_score for point in log.points]
    assert log.score_after == max(s for s in scores if s is not None)
    assert log.stopped == "finished"
    assert model.training  # the flags are as they were


def test_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    found = []
    for seed in (0, 0, 1):
        model = network()
        fine_tune(model, task(1), task(2), recipe=RECIPE, seed=seed)
        found.append(weights(model))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_features_come_nearer_to_the_teachers_and_no_hook_stays() -> None:
    teacher, data = network(seed=5), task(1)
    distances = []
    for weight in (0.0, 5.0):
        model = network()
        recipe = Recipe(epochs=6, lr=0.1, distill_weight=0.0, feature_weight=weight)
        fine_tune(model, data, None, teacher=teacher, features={"2": "2"}, recipe=recipe)
        with watched(model, ["2"]) as ours, watched(teacher, ["2"]) as theirs, torch.no_grad():
            model.eval()(data[0][0])
            teacher.eval()(data[0][0])
        distances.append(float(feature_loss(ours, theirs, {"2": "2"}) or 0))
        assert not any(part._forward_hooks for part in [*model.modules(), *teacher.modules()])
    assert distances[1] < 0.7 * distances[0]


def test_hooks_are_removed_when_the_loss_raises_and_unknown_names_are_named() -> None:
    def broken(_output: Any, _target: Any) -> Tensor:
        raise RuntimeError("broken")

    teacher, model = network(seed=5), network()
    recipe = Recipe(feature_weight=1.0)
    with pytest.raises(RuntimeError, match="broken"):
        fine_tune(
            model, task(1), None, teacher=teacher, features={"2": "2"}, recipe=recipe, loss=broken
        )
    with pytest.raises(ConfigError, match="no such module"):
        fine_tune(model, task(1), None, teacher=teacher, features={"2": "x"}, recipe=recipe)
    assert not any(part._forward_hooks for part in [*model.modules(), *teacher.modules()])


def test_rewind_starts_from_a_higher_rate_and_a_given_rate_wins() -> None:
    assert Recipe(schedule="rewind").peak_lr == 5 * Recipe().peak_lr
    assert Recipe(schedule="rewind", lr=0.01).peak_lr == 0.01


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_an_interrupted_training_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: Any, ema: float | None
) -> None:
    recipe = Recipe(epochs=4, lr=0.02, optimizer=optimizer, ema=ema, feature_weight=1.0)
    same_place = {"2": "2"}
    teacher = network(seed=5)
    whole = network()
    expected = fine_tune(
        whole, task(1), task(2), teacher=teacher, features=same_place, recipe=recipe
    )
    monkeypatch.setattr(loop, "CHECKPOINT_STEPS", 3)

    def stop(done: int, _total: int, _note: str) -> None:
        if done == 19:
            raise KeyboardInterrupt

    state = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fine_tune(
            network(), task(1), task(2), teacher=teacher, features=same_place, recipe=recipe,
            state=state, on_progress=stop,
        )  # fmt: skip
    assert state.is_file()
    resumed = network(seed=9)  # its own weights do not matter
    log = fine_tune(
        resumed, task(1), task(2), teacher=teacher, features=same_place, recipe=recipe, state=state
    )
    assert same(weights(whole), weights(resumed))
    assert log == expected
    assert not state.exists()


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    state.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00garbage")
    with pytest.raises(CheckpointError, match="is damaged"):
        fine_tune(network(), task(1), task(2), recipe=RECIPE, state=state)


def test_patience_stops_early_and_needs_validation_data() -> None:
    recipe = Recipe(epochs=50, lr=1e-6, patience=2)
    log = fine_tune(network(), task(1), task(2), recipe=recipe)
    assert log.stopped == "patience"
    assert log.steps < 50 * 8
    with pytest.raises(ConfigError, match="patience stops on validation"):
        fine_tune(network(), task(1), None, recipe=recipe)


def test_a_diverging_training_keeps_the_weights_from_before() -> None:
    model = network()
    before = weights(model)
    data = [(torch.full((4, 4), float("inf")), torch.zeros(4, dtype=torch.long))]
    log = fine_tune(model, data, task(2), recipe=RECIPE)
    assert log.stopped == "diverged"
    assert same(before, weights(model))


def test_no_epochs_means_nothing_is_trained() -> None:
    model = network()
    before = weights(model)
    assert fine_tune(model, [], task(2), recipe=Recipe(epochs=0)).stopped == "nothing to do"
    assert same(before, weights(model))


def test_distillation_pulls_towards_the_teacher_and_leaves_it_alone() -> None:
    teacher = network(seed=5).eval()
    before = weights(teacher)
    x = torch.cat([batch for batch, _ in task(2)])

    def distance(model: nn.Module) -> float:
        with torch.no_grad():
            return float((model.eval()(x).softmax(1) - teacher(x).softmax(1)).abs().mean())

    model = network()
    start = distance(copy.deepcopy(model))
    recipe = Recipe(epochs=6, lr=0.1, distill_weight=1.0)
    fine_tune(model, task(1), None, teacher=teacher, recipe=recipe)
    assert distance(model) < 0.5 * start
    assert same(before, weights(teacher))


def test_recalibration_sets_the_statistics_of_the_data() -> None:
    model = network().eval()
    data = task(3)
    assert recalibrate(model, data)
    with torch.no_grad():
        hidden = torch.stack([model[0](x).mean(0) for x, _ in data]).mean(0)
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert torch.allclose(norm.running_mean, hidden, atol=1e-5)
    assert norm.momentum == 0.1
    assert not norm.training


def test_recalibration_without_batch_norm_changes_nothing() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    before = weights(model)
    assert not recalibrate(model, task(3))
    assert same(before, weights(model))


TRAIN = """
import sys
from safetensors.numpy import load_file, save_file
state = load_file(sys.argv[1])
state["0.bias"] += 1
{change}
save_file(state, sys.argv[2])
"""


def command(tmp_path: Path, change: str = "") -> str:
    script = tmp_path / "train.py"
    script.write_text(TRAIN.format(change=change))
    return f"{sys.executable} {script} {{weights}} {{out}}"


def test_the_users_command_trains(tmp_path: Path) -> None:
    model = network()
    before = weights(model)
    run_command(command(tmp_path), model, tmp_path, cwd=tmp_path)
    after = weights(model)
    assert torch.equal(after["0.bias"], before["0.bias"] + 1)
    assert torch.equal(after["4.weight"], before["4.weight"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("raise SystemExit('no data found')", ModelError, "exit code 1:\n  no data found"),
        ("sys.exit(0)", CheckpointError, "wrote no"),
        ("del state['0.bias']", CheckpointError, r"1 missing, the first 0\.bias"),
    ],
)
def test_a_failing_command_is_named(
    tmp_path: Path, change: str, error: type[Exception], message: str
) -> None:
    model = network()
    before = weights(model)
    with pytest.raises(error, match=message):
        run_command(command(tmp_path, change), model, tmp_path, cwd=tmp_path)
    assert same(before, weights(model))


def test_a_command_without_placeholder_or_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lacks \{out\}"):
        run_command("train {weights}", network(), tmp_path, cwd=tmp_path)
    with pytest.raises(ModelError, match="could not run"):
        run_command("no-such-program {weights} {out}", network(), tmp_path, cwd=tmp_path)


def test_the_users_function_may_train_but_not_rebuild() -> None:
    def fine(model: nn.Module, _train: Any, _validation: Any) -> None:
        with torch.no_grad():
            next(model.parameters()).add_(1)

    def rebuild(model: nn.Module, _train: Any, _validation: Any) -> None:
        model.append(nn.Linear(3, 3))  # type: ignore[operator]

    run_function(fine, network(), [], [])
    with pytest.raises(ModelError, match="changed the network itself"):
        run_function(rebuild, network(), [], [])


def test_a_function_starts_from_a_seed_and_may_not_leave_nan() -> None:
    drawn = []

    def draw(model: nn.Module, _train: Any, _validation: Any) -> None:
        drawn.append(float(torch.rand(1)))

    def ruin(model: nn.Module, _train: Any, _validation: Any) -> None:
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))

    before = torch.get_rng_state()
    run_function(draw, network(), [], [], seed=3)
    run_function(draw, network(), [], [], seed=3)
    assert drawn[0] == drawn[1]
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(CheckpointError, match=r"NaN or infinity, first in '0\.weight'"):
        run_function(ruin, network(), [], [])


def test_a_command_that_is_no_words_or_writes_nan_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be split into words"):
        run_command("train '{weights} {out}", network(), tmp_path, cwd=tmp_path)
    ruin = command(tmp_path, "state['4.bias'][0] = float('inf')")
    model = network()
    before = weights(model)
    with pytest.raises(CheckpointError, match=r"NaN or infinity, first in '4\.bias'"):
        run_command(ruin, model, tmp_path, cwd=tmp_path)
    assert same(before, weights(model))


@pytest.mark.parametrize("value", [None, float("nan")])
def test_recalibration_without_usable_data_keeps_the_statistics(value: float | None) -> None:
    model = network()
    recalibrate(model, task(3))
    before = weights(model)
    x = torch.zeros(1, 4) if value is None else torch.full((8, 4), value)
    with pytest.raises(DataError, match="cannot be recalibrated"):
        recalibrate(model, [(x, None)])
    assert same(before, weights(model))
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.momentum == 0.1


def test_the_teacher_gets_its_train_flags_back() -> None:
    teacher = network(seed=5).train()
    fine_tune(network(), task(1), None, teacher=teacher, recipe=Recipe(epochs=1))
    assert all(module.training for module in teacher.modules())


def test_a_state_of_another_training_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_STEPS", 3)

    def stop(done: int, _total: int, _note: str) -> None:
        if done == 7:
            raise KeyboardInterrupt

    state = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fine_tune(network(), task(1), task(2), recipe=RECIPE, state=state, on_progress=stop)
    other = Recipe(epochs=6, lr=0.2, distill_weight=0.0)
    with pytest.raises(CheckpointError, match="another recipe, seed or number of steps"):
        fine_tune(network(), task(1), task(2), recipe=other, state=state)
    assert state.is_file()


def test_a_network_with_one_logit_learns_with_and_without_a_teacher() -> None:
    data = [(x, (x[:, 0] > 0).long()) for x, _ in task(1)]
    recipe = Recipe(epochs=6, lr=0.2, distill_weight=0.0)
    teacher = nn.Linear(4, 1)
    log = fine_tune(teacher, data, data, recipe=recipe)
    assert log.score_after is not None
    assert log.score_after > 0.9
    student = nn.Linear(4, 1)
    copying = Recipe(epochs=6, lr=0.2, distill_weight=1.0)
    learned = fine_tune(student, data, data, teacher=teacher, recipe=copying)
    assert learned.score_after is not None
    assert learned.score_after > 0.9


def test_tokens_are_scored_at_their_own_places() -> None:
    logits = torch.zeros(2, 5, 7)
    target = torch.arange(10).reshape(2, 5) % 7
    sharp = logits.scatter(2, target.unsqueeze(2), 20.0)
    loss = loss_for(token_accuracy)
    assert float(loss(sharp, target)) < 1e-3
    assert float(loss(logits, target)) == pytest.approx(math.log(7))


def test_training_data_without_a_length_is_named() -> None:
    with pytest.raises(ConfigError, match="generator has no length"):
        fine_tune(network(), (batch for batch in task(1)), task(2), recipe=RECIPE)
