"""The inspection example: parts are drawn as its config says, and its network takes them."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from srinit.comparison import find_defects
from srinit.config import load_config
from srinit.units import find_units

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "inspection"


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = spec_from_file_location("inspection_make", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    path, other = list(sys.path), sys.modules.pop("model", None)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = path
        sys.modules.pop("model", None)
        if other is not None:
            sys.modules["model"] = other
    return module


def test_a_seed_draws_the_same_part_and_a_defect_changes_it(make: ModuleType) -> None:
    def drawn(seed: int, kind: str = "OK") -> np.ndarray:
        part: np.ndarray = make.part(np.random.default_rng(seed), kind=kind)
        return part

    good = drawn(0)
    assert good.shape == (48, 48)
    assert good.dtype == np.uint8
    assert np.array_equal(good, drawn(0))
    for kind in make.CLASSES[1:]:
        changed = abs(drawn(0, kind).astype(int) - good) > 15
        assert 3 <= changed.sum() <= 150  # a small place, not another picture
    assert not np.array_equal(good, drawn(1))


def test_network_and_config_of_the_example_fit_each_other(make: ModuleType) -> None:
    config = load_config(FOLDER / "srinit.yaml")
    assert config.data.classes == list(make.CLASSES)
    assert config.data.defect_classes == make.CLASSES[1:]
    find_defects(make.CLASSES, config.data.defect_classes, config.data.costs)
    assert config.data.site == "images:data/line"
    assert config.data.preprocess.mean == (make.MEAN,)
    assert config.data.preprocess.std == (make.STD,)
    images = torch.zeros(2, config.data.preprocess.channels, make.SIDE, make.SIDE)
    net = make.part_net().eval()
    assert net(images).shape == (2, len(make.CLASSES))
    names = find_units(net, images).names
    assert len([name for name in names if name.startswith("stage")]) == 9
