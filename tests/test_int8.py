"""int8 by NNCF: layers go back to float32 where the default loses too much, and are named."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from srinit import int8
from srinit.export import export_onnx, export_openvino
from srinit.rng import isolated_rng
from srinit.serving import FileNetwork

if not all(map(find_spec, ("openvino", "nncf"))):  # importing them here would tell of it
    pytest.skip("int8 by NNCF needs the extra openvino", allow_module_level=True)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[Tensor, None]]]:
    """A small network as IR, and single examples."""
    folder = tmp_path_factory.mktemp("ir")
    with isolated_rng(0):
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(128, 3),
        ).eval()  # fmt: skip
        examples = torch.randn(16, 1, 8, 8)
    export_onnx(model, examples, folder / "net.onnx")
    export_openvino(model, examples, folder / "net.onnx", folder / "net.xml")
    return folder / "net.xml", [(one[None], None) for one in examples]


def test_the_default_quantizes_every_layer(
    network: tuple[Path, list[tuple[Tensor, None]]], tmp_path: Path
) -> None:
    source, singles = network
    assert int8.quantize_openvino(source, tmp_path / "int8.xml", singles) == 16
    assert int8.in_float_openvino(tmp_path / "int8.xml") == ()
    assert len(int8.in_float_openvino(source)) == 3
    assert (tmp_path / "int8.bin").stat().st_size < source.with_suffix(".bin").stat().st_size


def test_layers_go_back_to_float32_until_the_limit_is_kept(
    network: tuple[Path, list[tuple[Tensor, None]]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source, singles = network
    images = torch.cat([one for one, _ in singles])
    expected = FileNetwork(source)(images)

    def score(net: nn.Module) -> float:
        return 1 - float((net(images) - expected).abs().max())

    target = tmp_path / "int8.xml"
    int8.quantize_openvino(source, target, singles)
    lost = 1 - score(FileNetwork(target))
    int8.quantize_openvino(source, target, singles, score=score, max_drop=lost / 2)
    assert 1 - score(FileNetwork(target)) <= lost / 2
    assert int8.in_float_openvino(target)
    assert capfd.readouterr().out == ""
