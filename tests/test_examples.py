"""The CIFAR-10 example from checkpoint to gated result, made short by its own profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from srinit import cli

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "examples" / "cifar10" / "srinit.yaml"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_cifar10_example_goes_from_checkpoint_to_gated_result(
    shared_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = shared_dir / "checkpoints" / "resnet20-cifar10-jpeg.safetensors"
    data = shared_dir / "data" / "cifar10-jpeg"
    pairs = (
        "profile=quick",
        "plan.trial_examples=120",
        f"model.weights={weights}",
        f"data.source=parquet:{data / 'train.parquet'}",
        f"data.test=parquet:{data / 'test.parquet'}",
    )
    settings = [part for pair in pairs for part in ("--set", pair)]
    code = cli.run(["run", "-c", str(CONFIG), "--out", str(tmp_path), "--json", *settings])
    result = json.loads(capsys.readouterr().out)
    assert code == (0 if result["passed"] else 3)
    score = result["score"]
    assert score["num_examples"] == 500
    assert 0.8 < score["baseline"] < 0.95
    assert result["flops"][1] <= 0.85 * result["flops"][0] == 0.85 * 81_102_080
    assert score["low"] <= score["value"] <= score["high"]
    assert score["pruned"] > 0.6
    run = Path(result["run"])
    sensitivity = json.loads((run / "scan" / "sensitivity.json").read_text())
    assert len(sensitivity["units"]) == 9
    assert sensitivity["num_examples"] <= 640
    assert (run / "export" / "pruned.onnx").stat().st_size > 100_000
    assert cli.run(["verify", str(run)]) == 0
