"""Pruning in rounds: to the target, back from a failed round, and through interruptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from srinit.artifact import load_pruned
from srinit.config import load_config
from srinit.errors import ConfigError
from srinit.gates import GateResult
from srinit.observer import Silent
from srinit.pipeline import rounds
from srinit.pipeline import run as pipeline
from srinit.plan import Prefix, PrunePlan
from srinit.runs.result import RunResult
from srinit.steps import judging
from srinit.store import RunFolder

QUICK = (
    "scan.scheme=permuted", "scan.half_width=0.3", "finetune.epochs=1", "report.pictures=0",
    "export.onnx=false", "export.torch_export=false", "gates.max_drop=0.6", "plan.flops=0.6",
    "compare.latency_batches=[1]", "plan.trial_examples=60", "baseline.expected_top1=null",
)  # fmt: skip


class InterruptedTestError(Exception):
    pass


class Bomb(Silent):
    """Interrupts the run when the numbered round of the work is announced."""

    def __init__(self, at: int) -> None:
        self.left = at

    def step(self, title: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise InterruptedTestError(title)


def interrupt(_: object) -> None:
    raise InterruptedTestError


def carry_out(digits: Path, out: Path, *more: str, observer: Any = None) -> tuple[RunResult, Path]:
    result = pipeline.run_file(
        digits / "srinit.yaml", [*QUICK, *more, f"out={out}"], observer=observer
    )
    return result, Path(result.run)


def plan_of(run: Path, number: int) -> PrunePlan:
    return PrunePlan.from_json((run / "rounds" / f"{number:02d}" / "plan.json").read_bytes())


def weights(run: Path, number: int) -> bytes:
    return (run / "rounds" / f"{number:02d}" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def in_three(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, Path]:
    return carry_out(digits, tmp_path_factory.mktemp("three"), "prune.rounds=3")


@pytest.mark.slow
def test_every_round_cuts_more_on_a_scan_of_its_own(
    in_three: tuple[RunResult, Path], digits: Path
) -> None:
    result, run = in_three
    assert result.round == 3
    assert result.stopped_because == ""
    assert result.flops[1] <= 0.6 * result.flops[0]
    gone: tuple[str, ...] = ()
    for number in (1, 2, 3):
        plan = plan_of(run, number)
        assert plan.names[: len(gone)] == gone
        assert len(plan.names) > len(gone)
        gone = plan.names
        model = load_pruned(run / "rounds" / f"{number:02d}", trust_code=True, root=digits)
        assert sum(p.numel() for p in model.parameters()) == plan.prefixes[len(gone)].params
    assert gone == result.removed
    for number in (2, 3):
        assert (run / "rounds" / f"{number:02d}" / "scan" / "sensitivity.json").is_file()
    RunFolder.open(run).verify()


@pytest.mark.slow
def test_the_second_round_begins_with_what_the_first_learned(
    in_three: tuple[RunResult, Path], digits: Path
) -> None:
    _, run = in_three
    first, second = (
        load_pruned(run / "rounds" / name, trust_code=True, root=digits).state_dict()
        for name in ("01", "02/cut")
    )
    base = torch.equal(first["classifier.weight"], second["classifier.weight"])
    assert base  # a cut changes no weight of what stays


@pytest.mark.slow
def test_interrupted_anywhere_it_ends_with_the_same_bytes(
    in_three: tuple[RunResult, Path], digits: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    _, whole = in_three
    for at in (6, 8, 9):  # in the middle of the rounds
        with pytest.raises(InterruptedTestError):
            carry_out(digits, tmp_path, "prune.rounds=3", observer=Bomb(at))
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "seal", interrupt)  # everything is there but the seal
        with pytest.raises(InterruptedTestError):
            carry_out(digits, tmp_path, "prune.rounds=3")
    result, run = carry_out(digits, tmp_path, "prune.rounds=3")
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 1
    assert result.removed == in_three[0].removed
    same = ["plan.json", "scan/sensitivity.json", "scan/observations.jsonl", "scan/criterion.json"]
    for number in (1, 2, 3):
        round_ = f"rounds/{number:02d}"
        same += [f"{round_}/{name}" for name in ("plan.json", "model.safetensors", "recipe.json")]
    for name in same:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    assert RunFolder.open(run).verify() > 20
    assert json.loads((run / "plan_latency.json").read_text())["latency_ms"][0]["1"] > 0


def failing(at: int) -> Any:
    """Gates that fail at the numbered round."""
    real = judging.check_gates
    calls = [0]

    def check(comparison: Any, limits: Any, **more: Any) -> GateResult:
        calls[0] += 1
        return real(comparison, {"min_agreement": 1.0} if calls[0] == at else limits, **more)

    return check


@pytest.mark.slow
def test_a_failed_round_goes_back_to_the_one_before_bit_by_bit(
    in_three: tuple[RunResult, Path], digits: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(judging, "check_gates", failing(2))
    result, run = carry_out(digits, tmp_path, "prune.rounds=3")
    assert result.round == 1
    assert "round 2 failed on validation data" in result.stopped_because
    assert "equal predictions" in result.stopped_because
    assert result.passed
    assert weights(run, 1) == weights(in_three[1], 1)
    assert not (run / "rounds" / "02").exists()
    assert (run / "rejected" / "02" / "model.safetensors").is_file()
    assert result.removed == plan_of(run, 1).names
    assert "Round 1 is delivered" in result.words()
    for ratio in result.latency_ratio.values():
        unclear = ratio.low < 1 < ratio.high
        speed = "no change shown" if unclear else f"{1 / ratio.known:.2f}x as fast"
        assert f"({speed}, " in result.words()
    RunFolder.open(run).verify()


@pytest.mark.slow
def test_a_run_whose_first_round_fails_does_not_pass(
    digits: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(judging, "check_gates", failing(1))
    result, run = carry_out(digits, tmp_path, "prune.step.units=2")
    assert not result.passed
    assert "round 1 failed" in result.stopped_because
    assert len(plan_of(run, 1).names) == 2


def test_a_round_takes_its_part_of_what_is_left(digits: Path) -> None:
    costs = tuple(
        Prefix(num_removed=i, params=1000 - 100 * i, flops=1000 - 50 * i) for i in range(7)
    )

    def taken(number: int, *overrides: str) -> int:
        config = load_config(digits / "srinit.yaml", overrides)
        return rounds.share(costs, costs[0], config.prune, number)

    assert [taken(s, "prune.rounds=3") for s in (1, 2, 3, 4)] == [2, 3, 6, 6]
    assert taken(1, "prune.step.units=4") == 4
    assert taken(1, "prune.step.units=40") == 6
    assert taken(5, "prune.step.params=0.25") == 3
    assert taken(1, "prune.step.flops=0.25") == 5
    assert taken(1, "prune.step.flops=0.9") == 6


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["prune.rounds=2", "prune.step.units=1"], "rounds and step are both given"),
        (["prune.step.units=1", "prune.step.flops=0.1"], "one of units, params and flops"),
        (["prune.rounds=0"], "prune.rounds"),
        (["prune.rounds=2", "prune.stages=2"], "rounds and stages are both given"),
    ],
)
def test_rounds_that_contradict_each_other_are_named(
    digits: Path, overrides: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(digits / "srinit.yaml", overrides)


def test_the_key_of_earlier_versions_means_the_same(digits: Path) -> None:
    earlier = load_config(digits / "srinit.yaml", ["prune.stages=3"])
    assert earlier == load_config(digits / "srinit.yaml", ["prune.rounds=3"])
    assert earlier.prune.model_dump()["rounds"] == 3
