"""Every task through the whole flow: tokens, pixels, agreement, an own score, no shortcuts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tasks_project
from srinit.artifact import load_pruned
from srinit.errors import ConfigError
from srinit.pipeline import run as pipeline
from srinit.runs.result import RunResult

QUICK = (
    "scan.scheme=default", "scan.half_width=0.4", "finetune.epochs=1", "report.pictures=0",
    "export.onnx=false", "export.torch_export=false", "compare.latency_batches=[1]", "device=cpu",
    "registry.track=false", "plan.trial_examples=24",
    "gates={max_drop: 0.9, max_class_recall_drop: null}",
)  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    shutil.copyfile(tasks_project.__file__, folder / "tasks.py")
    images, rng = folder / "images", np.random.default_rng(0)
    images.mkdir()
    for number in range(160):
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(images / f"{number}.png")
    return folder


def carry_out(project: Path, model: str, data: str, *more: str) -> tuple[RunResult, Path]:
    config = project / f"{model}.yaml"
    name = f"{model}{len(list(project.glob('runs/*')))}"
    config.write_text(
        f"name: {name}\nmodel: py:tasks.py:{model}\ndata:\n  source: {data}\n"
        "  batch_size: 32\nplan:\n  params: 0.99\n"
    )
    result = pipeline.run_file(config, [*QUICK, f"out={project / 'runs'}", *more])
    return result, Path(result.run)


def check(result: RunResult, run: Path, project: Path, score: str) -> dict[str, Any]:
    """Check what holds for every task; return the comparison."""
    assert result.removed
    assert result.params[1] < result.params[0]
    load_pruned(run / "rounds" / "01", trust_code=True, root=project)
    comparison = json.loads((run / "rounds" / "01" / "comparison.json").read_text())
    assert comparison["score"]["baseline"] == pytest.approx(result.score_before)
    assert f"score: {score}" in (run / "config.yaml").read_text()
    page = (run / "report" / "report.html").read_text()
    assert len(page) > 10_000
    return comparison


@pytest.mark.parametrize(
    ("model", "data", "score"),
    [
        ("Tokens", "py:tasks.py:text", "token_accuracy"),
        ("Tokens", "py:tasks.py:walks", "next_token_accuracy"),
        ("Pixels", "py:tasks.py:masks", "image_iou"),
    ],
)
def test_tokens_and_pixels(project: Path, model: str, data: str, score: str) -> None:
    result, run = carry_out(project, model, data, f"score={score}", "finetune.lr=0.1")
    comparison = check(result, run, project, score)
    assert comparison["classes"] == []
    log = json.loads((run / "rounds" / "01" / "tune.json").read_text())
    assert log["steps"] > 0
    assert 0 < result.score_before < 1


def test_a_score_and_a_loss_of_ones_own(project: Path) -> None:
    result, run = carry_out(
        project, "Pixels", "py:tasks.py:masks", "score=py:tasks.py:near",
        "finetune.loss=py:tasks.py:own_loss", "finetune.distill_weight=0",
    )  # fmt: skip
    check(result, run, project, "py:tasks.py:near")


def test_unlabeled_images_and_agreement(project: Path) -> None:
    grey = ("data.preprocess.channels=1", "data.preprocess.mean=[0.5]", "data.preprocess.std=[0.3]")
    result, run = carry_out(project, "Plain", "images:images", "score=agreement",
                            "units.include_plain=true", *grey)  # fmt: skip
    comparison = check(result, run, project, "agreement")
    assert result.score_before == 1
    assert comparison["agreement"]["value"] == pytest.approx(result.score_after)


def test_a_network_without_shortcuts(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"no unit that can be removed.*include_plain"):
        carry_out(project, "Plain", "py:tasks.py:pictures")
    result, run = carry_out(project, "Plain", "py:tasks.py:pictures", "units.include_plain=true",
                            "units.select=['features.*']")  # fmt: skip
    check(result, run, project, "top1")
    assert all(name.startswith("features.") for name in result.removed)


def test_what_speaks_of_classes_is_refused_for_other_scores(project: Path) -> None:
    with pytest.raises(ConfigError, match="speaks of classes, and score: image_iou"):
        carry_out(project, "Pixels", "py:tasks.py:masks", "score=image_iou",
                  "data.defect_class=scratch")  # fmt: skip
    with pytest.raises(ConfigError, match="score"):
        carry_out(project, "Pixels", "py:tasks.py:masks", "score=f1")
