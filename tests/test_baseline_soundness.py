"""A network that was put together wrongly is told apart from one that is merely pruned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from class_project import CLASSES, config, make_project
from srinit import cli
from srinit.evaluate import suspicions
from srinit.report.text import Translator


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("brightness"))


def baseline(
    project: Path, capsys: pytest.CaptureFixture[str], **sections: Any
) -> tuple[list[dict[str, Any]], str]:
    """Return the warnings of `srinit baseline`, and what it said on stderr."""
    assert cli.run(["baseline", "-c", str(config(project, **sections)), "--json"]) == 0
    captured = capsys.readouterr()
    body = json.loads(captured.out)
    kept = json.loads((Path(body["run"]) / "baseline" / "metrics.json").read_text("utf-8"))
    assert kept["warnings"] == body["baseline"]["warnings"]
    return kept["warnings"], captured.err


def kinds(warnings: list[dict[str, Any]]) -> set[str]:
    return {each["kind"] for each in warnings}


def test_a_sound_network_gets_no_warning(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    warnings, said = baseline(project, capsys)
    assert warnings == []
    assert "WARNING" not in said


def test_two_exchanged_classes_are_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = {"source": "py:model.py:make", "args": {"reads": 0, "swap": True}}
    warnings, said = baseline(project, capsys, model=args)
    assert kinds(warnings) == {"exchanged", "never_right"}
    assert "WARNING: the unpruned network: the outputs of 'dim' and 'light' seem to be" in said
    assert "2 of 4 classes are never recognized, recall 0: dim 0/" in said


def test_a_wrong_normalization_is_told_with_the_one_that_fits(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = json.loads(config(project).read_text())["data"]
    del data["preprocess"]  # ImageNet's, where training had none
    warnings, said = baseline(project, capsys, data={**data, "preprocess": {}})
    assert "normalization" in kinds(warnings)
    assert "mean [0.0, 0.0, 0.0], std [1.0, 1.0, 1.0], scale 255): 48 of 48 calibration" in said


def test_colors_in_the_order_bgr_are_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = {"source": "py:model.py:make", "args": {"reads": 2}}
    warnings, said = baseline(project, capsys, model=args)
    assert "normalization" in kinds(warnings)
    assert "colors in the order BGR" in said


def test_one_answer_for_nearly_all_is_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = {"source": "py:model.py:make", "args": {"reads": 0, "shift": 2.0}}
    warnings, said = baseline(project, capsys, model=args)
    assert kinds(warnings) >= {"one_answer", "guessing", "never_right"}
    assert "100.0 % of all answers are 'dark', which 23.7 %" in said


def test_answers_by_chance_are_told_and_good_ones_of_uneven_classes_are_not() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 10, 400)
    assert {each.kind for each in suspicions(truth, rng.integers(0, 10, 400), "abcdefghij")} == {
        "guessing"
    }
    rare = np.repeat([0, 1], [990, 10])
    good = np.where(np.arange(1000) % 250 == 0, 1 - rare, rare)
    assert suspicions(rare, good, ["ok", "ng"]) == ()
    always = suspicions(rare, np.zeros(1000, dtype=np.int64), ["ok", "ng"])
    assert {each.kind for each in always} == {"never_right", "guessing"}


def test_a_rotation_of_many_classes_is_one_exchange_and_noise_is_none() -> None:
    truth = np.repeat(np.arange(12), 20)
    turned = np.where(truth < 5, (truth + 1) % 5, truth)
    (found,) = [each for each in suspicions(truth, turned, CLASSES * 3) if each.kind == "exchanged"]
    assert "5 outputs seem to stand in another order" in found.text
    rng = np.random.default_rng(1)
    for _ in range(20):
        noisy = np.where(rng.random(240) < 0.4, truth, rng.integers(0, 12, 240))
        assert "exchanged" not in {each.kind for each in suspicions(truth, noisy, CLASSES * 3)}


def test_the_report_makes_every_suspicion_a_condition_in_both_languages() -> None:
    truth = np.repeat(np.arange(3), 20)
    found = suspicions(truth, np.array([1, 0, 2])[truth], "abc")
    found += suspicions(truth, np.zeros(60, dtype=np.int64), "abc")
    assert {each.kind for each in found} == {"never_right", "exchanged", "guessing", "one_answer"}
    for each in found:
        text = Translator()(f"condition.baseline.{each.kind}", **each.values)
        assert "{" not in text.ja + text.en


def test_a_run_that_passes_its_gates_says_it_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path)
    path = config(
        project,
        model={"args": {"reads": 0, "swap": True}},
        gates={"max_drop": 0.9, "max_class_recall_drop": None},
        export={"onnx": False, "torch_export": False},
        report={"pictures": 0},
        plan={"remove": ["block"], "trial_examples": 0},
        scan={"scheme": "permuted", "half_width": 0.3},
    )
    assert cli.run(["run", "-c", str(path)]) == 0
    said = capsys.readouterr().out
    assert "Every gate passed.\nWARNING: the unpruned network: 2 of 4 classes" in said
    run = project / "runs" / "run"
    assert len(json.loads((run / "result.json").read_text("utf-8"))["warnings"]) == 2
    page = (run / "report" / "report.html").read_text("utf-8")
    assert "with dim → light, light → dim 20 of 20 would be right, and 0 are" in page
    assert cli.run(["verify", str(run)]) == 0
