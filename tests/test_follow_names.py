"""What a network says of its parts by name and number follows a cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srinit.rng import isolated_rng
from srinit.surgery import remove_units
from srinit.units import find_units
from test_copies import Block, X
from zoo import noise


class Staged(nn.Module):
    """Two stages, and lists of them as libraries keep them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.stages = nn.ModuleList(nn.Sequential(*(Block() for _ in range(3))) for _ in range(2))
        self.head = nn.Linear(8, 3)
        self.depths = (3, 3)
        self.feature_info = [
            {"module": "stages.0.2", "num_chs": 8},
            {"module": "stages.1.2", "num_chs": 8},
        ]
        self.return_layers = {"stages.0.1": "low", "stages.1.0.linear": "high", "stem": "first"}
        self.every = [f"stages.0.{i}" for i in range(3)]
        self.words = ["stages", "0.1", "stages.x.1"]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)


def cut(model: nn.Module, inputs: Tensor, *names: str) -> Any:
    units = find_units(model, inputs)
    return remove_units(model, [units[name] for name in names], example_inputs=inputs)


def test_lists_and_counts_follow_and_the_callers_stay() -> None:
    with isolated_rng(0):
        model = Staged().eval()
    pruned = cut(model, X, "stages.0.1", "stages.0.2", "stages.1.0")
    assert pruned.depths == (1, 2)
    assert [entry["module"] for entry in pruned.feature_info] == ["stages.0.0", "stages.1.1"]
    assert pruned.return_layers == {"stages.0.0": "low", "stem": "first"}
    assert pruned.every == ["stages.0.0"]
    assert pruned.words == model.words
    assert (model.depths, model.every[2]) == ((3, 3), "stages.0.2")
    assert model.feature_info[0]["module"] == "stages.0.2"


def test_the_number_of_layers_of_torchs_own_encoder_follows() -> None:
    with isolated_rng(0):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    assert cut(model, noise(2, 4, 8), "layers.1").num_layers == 2


def test_feature_info_of_timm_names_what_is_there() -> None:
    timm = pytest.importorskip("timm")
    with isolated_rng(0):
        model = timm.create_model("test_vit", img_size=64).eval()
    pruned = cut(model, noise(2, 3, 64, 64), "blocks.1", "blocks.4")
    assert [entry["module"] for entry in pruned.feature_info] == [f"blocks.{i}" for i in range(4)]
    with torch.no_grad():
        found = pruned.forward_intermediates(noise(2, 3, 64, 64), intermediates_only=True)
    assert len(found) == len(pruned.feature_info)
    assert len(model.feature_info) == 6
