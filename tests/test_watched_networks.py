"""An alarm rolls back the network that was watched, once, and no other."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parts_project import call, copied
from srinit.monitor import LogWriter
from srinit.store import audit

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="no mlflow")
SMALL = ("--set", "monitor.window=60")


@pytest.fixture
def run(finished_parts: Path) -> Path:
    """One finished run, which no test may change."""
    return finished_parts


def drifted(run: Path, log: Path) -> Path:
    """Write a log in which one class is all that the network says."""
    weights = json.loads((run / "rounds/01/recipe.json").read_text())["weights_sha256"]
    said = np.load(run / "rounds" / "01" / "predictions.npz")["pruned_predictions"]
    rarest = "abc"[np.bincount(said, minlength=3).argmin()]
    with LogWriter(log, model=weights) as writer:
        for number in range(120):
            writer.write(image=f"{number}", prediction=rarest, confidence=0.34, latency_ms=1.0)
    return log


def test_an_alarm_of_one_network_does_not_touch_another_that_serves(
    run: Path, tmp_path: Path, capsys: Any
) -> None:
    first = copied(run, tmp_path / "runs", registry=True)
    assert call(capsys, "promote", first)[0] == 0
    plan = call(capsys, "plan", first, "--remove", "stage2.0")[1]
    second = Path(plan["run"])
    for verb in ("prune", "finetune", "compare", "export", "report", "seal", "promote"):
        code, body = call(capsys, verb, second)
        assert code == 0, (verb, body)
    assert (body["version"], body["replaced"]) == (3, 2)
    log = drifted(first, tmp_path / "preds.jsonl")
    code, body = call(capsys, "monitor", first, "--log", log, "--auto-rollback", *SMALL)
    assert (code, body["alarm"], body["rolled_back"]) == (3, True, None)
    assert "version 3 of parts is champion" in body["rollback_failed"]
    assert "not the network that was watched" in body["rollback_failed"]
    entries = audit.read(first / "audit.jsonl").entries
    assert entries[-1]["verb"] == "monitor"  # no rollback, not even an intended one
    code, body = call(capsys, "rollback", second, "--rehearse")
    assert (body["champion"], body["target"]) == (3, 2)


def test_the_same_alarm_rolls_back_once_even_when_the_log_has_grown(
    run: Path, tmp_path: Path, capsys: Any
) -> None:
    own = copied(run, tmp_path / "runs", registry=True)
    assert call(capsys, "promote", own)[0] == 0
    log = drifted(own, tmp_path / "preds.jsonl")
    code, body = call(capsys, "monitor", own, "--log", log, "--auto-rollback", *SMALL)
    assert (code, body["rolled_back"]["target"]) == (3, 1)
    assert call(capsys, "promote", own)[1]["version"] == 2  # on purpose, by a person
    with log.open("a") as file:
        file.write(log.read_text())
    for _ in range(2):
        code, body = call(capsys, "monitor", own, "--log", log, "--auto-rollback", *SMALL)
        assert (code, body["rolled_back"]) == (3, None)
        assert "this alarm was answered already" in body["rollback_failed"]
    code, body = call(capsys, "rollback", own, "--rehearse")
    assert (body["champion"], body["target"]) == (2, 1)
    assert call(capsys, "verify", own)[0] == 0
    shutil.rmtree(own.with_name("parts.after"), ignore_errors=True)
