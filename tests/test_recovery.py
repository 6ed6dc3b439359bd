"""Recipes that choose themselves, what is said beforehand, and trainings of the user's own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from torch import nn

from srinit.config import dump_yaml, load_config
from srinit.config.yaml import parse_yaml
from srinit.errors import CheckpointError, ConfigError, ModelError, PruneError
from srinit.finetune import auto_recipe
from srinit.observer import Silent
from srinit.pipeline.run import run_file
from srinit.store import sha256_file

QUICK = (
    "plan.remove=[stage1.1]", "plan.flops=null", "plan.trial_examples=60", "scan.half_width=0.4",
    "scan.scheme=permuted", "compare.latency_batches=[1]", "gates.max_drop=1.0",
    "export.onnx=false",
    "export.torch_export=false", "report.pictures=0", "device=cpu",
)  # fmt: skip


def test_a_recipe_follows_the_size_of_the_data_and_keeps_what_is_given() -> None:
    sizes = (40, 800, 40_000, 10_000_000)
    found = [auto_recipe(size) for size in sizes]
    assert [recipe.batch_size for recipe in found] == [16, 32, 128, 128]
    assert [recipe.epochs for recipe in found] == [100, 80, 7, 5]
    assert {recipe.optimizer for recipe in found} == {"sgd"}
    assert auto_recipe(800, model=nn.LayerNorm(4)).optimizer == "adamw"
    given = auto_recipe(800, epochs=2, batch_size=64, ema=0.9)
    assert (given.epochs, given.batch_size, given.ema) == (2, 64, 0.9)


def test_auto_is_short_for_a_section_and_other_words_are_named(tmp_path: Path) -> None:
    body = {"model": {"source": "py:m.py:f"}, "data": {"source": "npz:d.npz"}}
    file = tmp_path / "srinit.yaml"
    file.write_text(dump_yaml({**body, "finetune": "auto"}))
    assert load_config(file).finetune == load_config(file, ["finetune.epochs=null"]).finetune
    assert load_config(file, ["finetune.epochs=3"]).finetune.epochs == 3
    file.write_text(dump_yaml({**body, "finetune": "automatic"}))
    with pytest.raises(ConfigError, match="finetune"):
        load_config(file)


TRAINS = """
import pathlib, sys
from safetensors.numpy import load_file, save_file
mode = pathlib.Path("mode").read_text()
state = load_file(sys.argv[1])
if mode == "fails":
    sys.exit("no licence for the trainer")
if mode == "misfits":
    state.pop(next(iter(state)))
if mode != "writes nothing":
    save_file(state, sys.argv[2])
"""


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def test_a_training_of_the_users_own_that_fails_leaves_the_run_as_it_was(
    digits: Path, tmp_path: Path
) -> None:
    (digits / "own.py").write_text(TRAINS)
    command = f"{sys.executable} own.py {{weights}} {{out}}"
    overrides = [*QUICK, f"out={tmp_path}", f"finetune.command={command}"]
    heard, kept = Heard(), {}
    for mode, kind, words in (
        ("fails", ModelError, "exit code 1:\n  no licence"),
        ("writes nothing", CheckpointError, "wrote no"),
        ("misfits", CheckpointError, "what finetune.command wrote"),
    ):
        (digits / "mode").write_text(mode)
        with pytest.raises(PruneError, match=words) as caught:
            run_file(digits / "srinit.yaml", overrides, observer=heard)
        assert isinstance(caught.value, kind)
        assert caught.value.exit_code == 4
        (folder,) = [path.parent for path in tmp_path.glob("*/run.json")]
        files = [folder / "plan.json", *(folder / "rounds" / "01" / "cut").iterdir()]
        hashes = {path.name: sha256_file(path) for path in files}
        assert kept in ({}, hashes)
        kept = hashes
        assert not (folder / "rounds" / "01" / "tune.json").exists()
    (digits / "mode").write_text("trains")
    assert run_file(digits / "srinit.yaml", overrides, observer=heard).run == str(folder)
    log = json.loads((folder / "rounds" / "01" / "tune.json").read_text())
    assert log["stopped"] == "user"
    (dip,) = [line for line in heard.said if line.startswith("Expected dip:")]
    assert "60 calibration examples" in dip
    assert any(line.startswith("Recovery: unknown; a training of your own") for line in heard.said)


@pytest.mark.slow
def test_a_rate_that_is_not_given_is_chosen_by_trials_on_copies(
    digits: Path, tmp_path: Path
) -> None:
    heard = Heard()
    overrides = [
        *QUICK, f"out={tmp_path}", "finetune.epochs=8", "finetune.rehearsal=6", "finetune.lr=null",
        "finetune.batch_size=32",
    ]  # fmt: skip
    run = Path(run_file(digits / "srinit.yaml", overrides, observer=heard).run)
    training = json.loads((run / "rounds" / "01" / "training.json").read_text())
    losses = {trial["lr"]: trial["loss"] for trial in training["trials"]}
    assert {0.02, 0.005} <= set(losses)
    assert (training["how"], training["steps"]) == ("tried", 6)
    chosen = training["recipe"]["lr"]
    best = chosen / (4 if training["is_raised"] else 1)
    assert losses[best] == min(losses.values())
    log = json.loads((run / "rounds" / "01" / "tune.json").read_text())
    assert log["recipe"] == training["recipe"]
    cost = training["cost"]
    (line,) = [line for line in heard.said if line.startswith("Recovery by")]
    assert f"6 steps on a copy leave a loss of {100 * cost['value']:.1f} points" in line
    assert f"peak rate {chosen:.3g}, the best of {len(losses)} recipes" in line
    optimizer = training["recipe"]["optimizer"]
    given = [*overrides, f"finetune.lr={chosen}", f"finetune.optimizer={optimizer}"]
    again = run_file(
        digits / "srinit.yaml", [*given, "finetune.rehearsal=0", f"out={tmp_path / 'b'}"]
    )
    weights = [
        sha256_file(folder / "rounds" / "01" / "model.safetensors")
        for folder in (run, Path(again.run))
    ]
    assert weights[0] == weights[1]  # trials leave no trace in the network


@pytest.mark.slow
def test_minutes_say_how_long_is_trained(digits: Path, tmp_path: Path) -> None:
    heard = Heard()
    overrides = [*QUICK, f"out={tmp_path}", "finetune.lr=0.01", "finetune.rehearsal=0"]
    file = digits / "minutes.yaml"
    body = parse_yaml((digits / "srinit.yaml").read_bytes(), where="srinit.yaml")
    body["finetune"] = {"minutes": 0.02}
    file.write_text(dump_yaml(body))
    run = Path(run_file(file, overrides, observer=heard).run)
    training = json.loads((run / "rounds" / "01" / "training.json").read_text())
    log = json.loads((run / "rounds" / "01" / "tune.json").read_text())
    assert training["step_seconds"] > 0
    assert log["recipe"]["epochs"] == training["recipe"]["epochs"]
    assert 0 < log["steps"] * training["step_seconds"] < 60 * 0.02 + training["step_seconds"]
    file.write_text(dump_yaml({**body, "finetune": {"minutes": 1e-6}}))
    run = Path(run_file(file, [*overrides, f"out={tmp_path / 'b'}"], observer=heard).run)
    assert json.loads((run / "rounds" / "01" / "tune.json").read_text())["steps"] == 0
    assert any("finetune.minutes leave no time for 10 steps" in line for line in heard.said)
