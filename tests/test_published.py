"""The published procedure and its exact counts (SR-init, https://arxiv.org/abs/2303.07677)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from srinit import networks, sources
from srinit.cost import count_cost
from srinit.plan import Prefix, PrunePlan, Removal, make_plan
from srinit.sensitivity import measure_sensitivity
from srinit.surgery import apply_plan
from srinit.units import UnitMap, find_units

ROOT = Path(__file__).resolve().parent.parent


def cifar() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cifar", ROOT / "examples/cifar10/model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plan_of(units: UnitMap, names: list[str]) -> PrunePlan:
    return PrunePlan(
        remove=tuple(Removal(unit=units[name]) for name in names),
        ranking=units.names,
        prefixes=(Prefix(num_removed=0, params=units.params, flops=units.flops),),
        target={"remove": names},
        criterion="published",
        inputs=units.inputs,
    )


def blocks(model: nn.Module, stages: tuple[str, ...]) -> list[str]:
    return [f"{stage}.{i}" for stage in stages for i in range(len(model.get_submodule(stage)))]  # type: ignore[arg-type]


ROWS = {
    "resnet56, 10 classes": (
        lambda: cifar().resnet56(10), (1, 3, 32, 32), ("layer1", "layer2", "layer3"),
        (1, 8, 17, 19, 21, 22, 23, 24, 25, 26), (7, 8, 2),
        (853_018, 307_226), (250_971_392, 156_599_552),
    ),
    "resnet56, 100 classes": (
        lambda: cifar().resnet56(100), (1, 3, 32, 32), ("layer1", "layer2", "layer3"),
        (1, 3, 17, 23, 24, 25, 26), (7, 8, 5),
        (858_868, 535_028), (250_982_912, 184_922_624),
    ),
    "torchvision resnet50": (
        lambda: networks.load_model("torchvision:resnet50"), (1, 3, 224, 224),
        ("layer1", "layer2", "layer3", "layer4"), (8, 14, 15), (3, 4, 5, 1),
        (25_557_032, 15_514_664), (8_178_368_512, 6_868_172_800),
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_published_block_sets_give_the_published_counts(row: str) -> None:
    build, shape, stages, removed, left, params, flops = ROWS[row]
    model = build().eval()
    example = torch.randn(2, *shape[1:], generator=torch.Generator().manual_seed(0))
    units = find_units(model, example)
    every = blocks(model, stages)
    pruned = apply_plan(model, plan_of(units, [every[i] for i in removed]))
    before, after = (count_cost(m, torch.zeros(shape)) for m in (model, pruned))
    assert (before.params, after.params) == params
    assert (before.flops, after.flops) == flops
    assert tuple(len(pruned.get_submodule(stage)) for stage in stages) == left  # type: ignore[arg-type]
    assert sum(p.numel() for p in pruned.parameters()) == params[1]


@pytest.mark.parametrize("depth", [20, 56])
def test_checkpoints_load_strictly_and_keep_their_names(shared_dir: Path, depth: int) -> None:
    path = shared_dir / "checkpoints" / f"resnet{depth}-cifar10-jpeg.safetensors"
    model = networks.load_model(
        f"py:examples/cifar10/model.py:resnet{depth}", weights=path, root=ROOT
    )
    assert model.state_dict().keys() == load_file(path).keys()


@pytest.mark.slow
def test_the_published_procedure_tells_the_stages_of_resnet56_apart(shared_dir: Path) -> None:
    model = networks.load_model(
        "py:examples/cifar10/model.py:resnet56",
        weights=shared_dir / "checkpoints" / "resnet56-cifar10-jpeg.safetensors",
        root=ROOT,
    )
    data = sources.load_data("parquet:data/cifar10-jpeg/test.parquet", root=shared_dir)
    data = sources.limited(data, 256, seed=0)
    units = find_units(model, next(iter(data.batches(2)))[0])
    scan = measure_sensitivity(
        model, units, data.batches(64), scheme="paper", draws=1, half_width=None, seed=0
    )
    drops = {unit.unit: unit.reinit_drop for unit in scan.units}
    assert len(drops) == 27
    assert all(unit.num_draws == 1 for unit in scan.units)
    first, last = (
        sorted(drop for name, drop in drops.items() if name.startswith(stage) and drop is not None)
        for stage in ("layer1", "layer3")
    )
    # METHOD: .53-.78 in the first stage, .33-.57 in the last, on 2,000 images and two draws.
    assert first[4] > 0.6
    assert 0.2 < last[4] < 0.55
    plan = make_plan(scan, max_drop=0.6, rule="point")
    assert {name.partition(".")[0] for name in plan.names} <= {"layer1", "layer2", "layer3"}
    assert sum(name.startswith("layer3") for name in plan.names) >= 7
