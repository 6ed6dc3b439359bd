"""Exported files answer as PyTorch does, and hold nothing that runs when it is read."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from srinit import export
from srinit.errors import ModelError
from srinit.export import export_onnx, export_torch, measure_file_pair, run_file
from zoo_plain import Branching


def small() -> nn.Module:
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 5),
        ).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_onnx_answers_as_torch_does_for_any_batch(tmp_path: Path, images: Tensor) -> None:
    model, path = small(), tmp_path / "m.onnx"
    found = export_onnx(model, images, path)
    assert found.num_examples == 7
    assert found.agreement == 1.0
    for size in (1, 3, 7):
        expected = model(images[:size]).detach()
        assert torch.allclose(run_file(path, (images[:size],)), expected, atol=1e-5)


def test_torch_export_answers_as_torch_does_and_holds_no_pickle(
    tmp_path: Path, images: Tensor
) -> None:
    model, path = small(), tmp_path / "m.pt2"
    assert export_torch(model, images, path).max_difference < 1e-5
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert not name.endswith(".pkl")
            assert not content.startswith((b"PK", b"\x80\x02", b"\x80\x04")), name


def test_export_leaves_the_model_as_it_was(tmp_path: Path, images: Tensor) -> None:
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_onnx(model, images, tmp_path / "m.onnx")
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_that_cannot_be_exported_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"torch\.export failed"):
        export_torch(Branching(), torch.ones(2, 3), tmp_path / "m.pt2")
    with pytest.raises(ModelError, match="ONNX export failed"):
        export_onnx(Branching(), torch.ones(2, 3), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_onnx_latency_is_measured_in_turn(tmp_path: Path, images: Tensor) -> None:
    path = tmp_path / "m.onnx"
    export_onnx(small(), images, path)
    pair = measure_file_pair(path, path, images, batch_size=2, repeats=5)
    assert pair.baseline.runtime == "onnxruntime"
    assert pair.baseline.batch_size == 2
    assert pair.ratio.low <= pair.ratio.known <= pair.ratio.high


def test_a_file_that_answers_differently_is_never_left_behind(
    tmp_path: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = export.run_file
    monkeypatch.setattr(export, "run_file", lambda path, inputs: real(path, inputs) + 0.1)
    with pytest.raises(ModelError, match="answers differently from PyTorch"):
        export_onnx(small(), images, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
