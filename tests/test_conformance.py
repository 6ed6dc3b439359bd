"""The public list of networks, each with the number of units that its authors would count."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from srinit.rng import isolated_rng
from srinit.units import UnitMap, find_units
from zoo import PLAIN, Case
from zoo_transformers import HUGGING_FACE

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def image(size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def found(build: Callable[[], nn.Module], inputs: Any) -> UnitMap:
    with warnings.catch_warnings(), isolated_rng(0):
        warnings.simplefilter("ignore")
        return find_units(build().eval(), inputs)


def whole(units: UnitMap) -> list[str]:
    """Names of the units that go as a whole; branches of shape-changing blocks left out."""
    return [unit.name for unit in units if unit.kind != "branch"]


TORCHVISION = {
    "resnet18": 5,
    "resnet50": 12,
    "mobilenet_v2": 10,
    "mobilenet_v3_small": 6,
    "efficientnet_b0": 9,
    "regnet_y_400mf": 12,
    "shufflenet_v2_x0_5": 13,
    "squeezenet1_1": 0,
    "densenet121": 0,
    "convnext_tiny": 18,
}
TIMM = {
    "test_vit": (6, 160),
    "deit_tiny_patch16_224": (12, 224),
    "convnext_atto": (12, 96),
    "mixer_s32_224": (8, 224),
    "poolformer_s12": (12, 96),
    "regnetx_002": (9, 96),
    "mobilevit_xxs": (12, 128),
    "levit_128s": (9, 224),
    "ghostnet_050": (11, 96),
    "edgenext_xx_small": (12, 128),
    "repvgg_a0": (17, 96),
    "swin_tiny_patch4_window7_224": (12, 224),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_classifiers_have_the_published_number_of_units(name: str) -> None:
    models = pytest.importorskip("torchvision").models
    units = found(lambda: models.get_model(name, weights=None), image(96))
    assert len(whole(units)) == TORCHVISION[name], whole(units)


def test_segmentation_model_has_the_published_number_of_units() -> None:
    models = pytest.importorskip("torchvision").models.segmentation
    units = found(lambda: models.fcn_resnet50(weights=None, weights_backbone=None), image(96))
    assert len(whole(units)) == 12, whole(units)


def test_detection_model_has_the_published_number_of_units() -> None:
    models = pytest.importorskip("torchvision").models.detection
    build = models.fasterrcnn_mobilenet_v3_large_320_fpn
    images = list(image(160))
    units = found(lambda: build(weights=None, weights_backbone=None), (images,))
    assert len(whole(units)) == 10, whole(units)


@pytest.mark.parametrize("name", TIMM)
def test_timm_models_have_the_published_number_of_units(name: str) -> None:
    timm = pytest.importorskip("timm")
    count, size = TIMM[name]
    units = found(lambda: timm.create_model(name), image(size))
    assert len(whole(units)) == count, whole(units)


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_transformers_models_have_the_published_number_of_units(name: str) -> None:
    pytest.importorskip("transformers")
    check(HUGGING_FACE[name])


@pytest.mark.parametrize("name", PLAIN)
def test_plain_torch_models_have_the_published_number_of_units(name: str) -> None:
    check(PLAIN[name])


def check(case: Case) -> None:
    """Compare the count; a unit that provides something to others counts, though it is locked."""
    model, inputs = case.build()
    units = found(lambda: model, inputs)
    providers = [lock.name for lock in units.locked if lock.reason == "dependency"]
    names = whole(units) + providers
    assert len(names) == case.units, names
    assert {lock.reason for lock in units.locked} >= set(case.reasons)
    assert bool(providers) == ("dependency" in case.reasons)
    assert bool(units.note) == (not units.removable)
