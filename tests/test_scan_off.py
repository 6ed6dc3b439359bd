"""`scan: off`: everything down the line works without a scan, and says that there was none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from language_project import project, run
from srinit import cli

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")

OFF = ("scan=off", "plan.params=null", "plan.units=2", "report.languages=[ja,en]")


def call(capsys: Any, *words: str) -> tuple[int, dict[str, Any]]:
    code = cli.run([*words, "--json"])
    body: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, body


def test_a_run_without_a_scan_in_rounds_with_trials_says_so_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project(tmp_path)
    code, body = run(
        folder, capsys, *OFF, "prune.rounds=2", "plan.trial_examples=8", "plan.beside=[taylor]"
    )
    assert code == 0, body
    found = Path(body["run"])
    scan = json.loads((found / "scan" / "sensitivity.json").read_text())
    assert (scan["units"], scan["stopped_by"]) == ([], "off")
    assert not (found / "scan" / "observations.jsonl").exists()
    page = (found / "report" / "report.html").read_text()
    assert "The scan was left out (scan: off)" in page
    assert "再初期化による測定は省きました" in page
    assert "random ones, and the loss" not in page
    assert "loss with random weights" not in page
    for word in ("McNemar", "lighting", "images", "枚ずつ", "正解率", "Loss of accuracy"):
        assert word not in page, word  # it reads texts
    assert all(word in page for word in ("Perplexity", "from_pretrained", "Generated answers"))
    for verb in ("verify", "report"):
        assert call(capsys, verb, str(found))[0] == 0
    code, body = call(capsys, "plan", str(found), "--remove", "model.layers.1")
    assert code == 0, body
    code, body = call(capsys, "plan", str(found), "--max-drop", "0.1")
    assert code == 2
    assert (
        "plan.max_drop: bounds the drops of the scan, and scan is off" in body["error"]["message"]
    )


def test_verbs_and_estimates_leave_the_scan_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project(tmp_path)
    common = ["-c", str(folder / "srinit.yaml"), "--out", str(folder / "runs")]
    pairs = [part for change in OFF for part in ("--set", change)]
    code, body = call(capsys, "run", *common, *pairs, "--dry-run")
    assert code == 0, body
    assert body["seconds"]["scan"] == 0
    code, body = call(capsys, "scan", *common, *pairs)
    assert code == 0, body
    assert body["sensitivity"]["units"] == []
    wrong = ["plan.criterion=reinit_drop", "plan.max_drop=0.1", "plan.beside=[reinit_drop]"]
    more = [part for change in wrong for part in ("--set", change)]
    code, body = call(capsys, "run", *common, *pairs, *more)
    assert code == 2
    lines = body["error"]["message"]
    assert all(word in lines for word in ("plan.criterion: reinit_drop is", "plan.beside:"))
