"""A run that copies the features of the unpruned network, from the config on."""

from __future__ import annotations

from pathlib import Path

import pytest

from srinit.finetune import TuneLog, loop
from srinit.pipeline import run as pipeline
from srinit.steps import pruning

QUICK = (
    "scan.scheme=permuted", "scan.half_width=0.3", "finetune.epochs=1", "report.pictures=0",
    "export.onnx=false", "export.torch_export=false", "gates.max_drop=0.6", "plan.flops=0.6",
    "compare.latency_batches=[1]", "plan.trial_examples=0", "baseline.expected_top1=null",
    "finetune.feature_weight=1.0",
    "finetune.schedule=rewind",
)  # fmt: skip


def test_a_run_compares_features_after_its_cuts(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []

    def recorded(*args: object, features: dict[str, str] | None, **rest: object) -> TuneLog:
        assert features is not None
        seen.append(features)
        return loop.fine_tune(*args, features=features, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pruning, "fine_tune", recorded)
    result = pipeline.run_file(digits / "srinit.yaml", [*QUICK, f"out={tmp_path / 'runs'}"])
    assert result.removed
    assert len(seen) == 1
    assert seen[0], "no place to compare features was found"
    assert not set(seen[0].values()) & set(result.removed)
