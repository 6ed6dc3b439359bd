"""Exported files are checked as closely as the number format of the network allows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srinit import export
from srinit.errors import ModelError
from srinit.export import TOLERANCES, export_onnx, export_torch
from srinit.runtimes import ModelFile
from zoo_plain import Masked, Named, Unknown

FORMATS = [torch.float32, torch.float16]


def network(dtype: torch.dtype, scale: float = 1.0) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=source))
        model[3].weight.mul_(scale)
        model[3].bias.mul_(scale)
    return model.to(dtype)


def images(dtype: torch.dtype) -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_file_may_differ_by_the_rounding_of_its_format(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    found = export_onnx(network(dtype), images(dtype), tmp_path / "m.onnx")
    assert found.agreement == 1.0
    assert (dtype == torch.float16) == (found.max_difference > 1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("steps", "passes"), [(0.5, True), (2.0, False)])
def test_the_tolerance_is_relative_to_the_outputs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    steps: float,
    passes: bool,
) -> None:
    model, x = network(dtype, scale=300.0), images(dtype)
    with torch.no_grad():
        answer = model(x).double()
    other = answer + steps * TOLERANCES[dtype] * float(answer.abs().max())
    monkeypatch.setattr(export.modules, "logits_of", _second(answer.to(dtype), other))
    if passes:
        assert export_torch(model, x, tmp_path / "m.pt2").max_difference > 0
    else:
        name = str(dtype).removeprefix("torch.")
        with pytest.raises(ModelError, match=rf"by .*, on outputs up to .* is allowed for {name}"):
            export_torch(model, x, tmp_path / "m.pt2")


def _second(answer: Tensor, other: Tensor) -> Any:
    """Return what gives the file's answer first (it is read first), then PyTorch's."""
    waiting = [answer, other]
    return lambda _output: waiting.pop()


def test_small_outputs_are_not_checked_by_an_absolute_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = export.run_file
    monkeypatch.setattr(export, "run_file", lambda path, inputs: real(path, inputs) + 5e-5)
    with pytest.raises(ModelError, match="answers differently from PyTorch"):
        export_onnx(network(torch.float32, 1e-3), images(torch.float32), tmp_path / "m.onnx")


def test_equal_infinities_do_not_differ(tmp_path: Path) -> None:
    x = torch.tensor([[1.0, -1.0], [2.0, 3.0]])
    assert export_onnx(Masked(), x, tmp_path / "m.onnx").max_difference == 0
    assert export_torch(Masked(), x, tmp_path / "m.pt2").max_difference == 0


def test_an_error_of_the_exporter_says_what_it_came_from_without_colors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"No ONNX function found for .*svd") as caught:
        export_onnx(Unknown(), torch.ones(2, 3), tmp_path / "m.onnx")
    assert not re.search(r"\x1b", str(caught.value))
    assert "step 3/3" not in str(caught.value)
    assert "Failed to convert" in str(caught.value.__cause__)


def test_a_format_that_the_runtime_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"The network is bfloat16.*export model\.float\(\)"):
        export_onnx(network(torch.bfloat16), images(torch.bfloat16), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_labels_of_a_loaders_batch_are_no_input_of_the_file(tmp_path: Path) -> None:
    batch = {"pixel_values": torch.ones(3, 3), "labels": torch.zeros(3, dtype=torch.long)}
    assert export_torch(Named().eval(), batch, tmp_path / "m.pt2").num_examples == 3
    export_onnx(Named().eval(), batch, tmp_path / "m.onnx")
    assert ModelFile(tmp_path / "m.onnx").names == ["pixel_values"]
