"""Rounds where the verbs are called one by one: whatever is asked of a round, all come first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parts_project import CONFIG, call, make
from srinit.errors import ConfigError
from srinit.observer import Silent
from srinit.pipeline import start
from srinit.runs import artifacts


@pytest.mark.parametrize("is_in_config", [True, False])
def test_a_comparison_right_after_the_plan_carries_the_rounds_out_first(
    is_in_config: bool, tmp_path: Path, capsys: Any
) -> None:
    config = make(tmp_path, CONFIG + "prune: {rounds: 2}\n" * is_in_config)
    run = tmp_path / "runs" / "parts"
    pairs = () if is_in_config else ("--set", "prune.rounds=2")
    assert call(capsys, "scan", "-c", config, "--out", run.parent)[0] == 0
    assert call(capsys, "plan", run)[0] == 0
    code, body = call(capsys, "compare", run, *pairs)
    assert code == 0, body
    outcome = json.loads((run / "rounds" / "outcome.json").read_bytes())
    own = run / "rounds" / f"{outcome['delivered']:02d}"
    assert (own / "plan.json").is_file()
    assert (own / "comparison.json").is_file()
    code, body = call(capsys, "prune", run)
    assert code == 0, body


def test_the_plan_of_a_round_is_never_the_whole_one(tmp_path: Path, capsys: Any) -> None:
    config = make(tmp_path, CONFIG + "prune: {rounds: 2}\n")
    run = tmp_path / "runs" / "parts"
    assert call(capsys, "scan", "-c", config, "--out", run.parent)[0] == 0
    assert call(capsys, "plan", run)[0] == 0
    with (
        start.open_run(run, Silent(), verb="compare") as runner,
        pytest.raises(ConfigError, match="srinit prune"),
    ):
        runner.in_round(1).get(artifacts.TUNE_LOG)
    assert not (run / "rounds").exists()
