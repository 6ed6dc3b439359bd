"""Pruned networks on disk: bit-equal in a new process, strict, and nothing runs unasked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import processes
from srinit.artifact import RECIPE, WEIGHTS, load_pruned, read_recipe, save_pruned
from srinit.errors import CheckpointError, ConfigError, IntegrityError, UnsafeError
from srinit.plan import Prefix, PrunePlan, Removal
from srinit.surgery import apply_plan
from srinit.units import find_units
from zoo import EXAMPLE, cifar_resnet, noise
from zoo_tokens import Tied
from zoo_weights import Versioned

X = noise(2, 3, 32, 32)
BASE = {"source": f"py:{EXAMPLE}:resnet", "args": {"depth": 20, "num_classes": 10}}
GONE = ("layer1.1", "layer2.0", "layer3.2")


def plan_for(model: nn.Module, inputs: Any, gone: tuple[str, ...]) -> PrunePlan:
    units = find_units(model, inputs)
    costs = tuple(Prefix(num_removed=i, params=0, flops=0) for i in range(len(gone) + 1))
    return PrunePlan(
        remove=tuple(Removal(unit=units[name]) for name in gone),
        ranking=gone,
        prefixes=costs,
        target={"remove": list(gone)},
        criterion="by hand",
        inputs=units.inputs,
    )


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Module]:
    """A pruned ResNet-20 with weights that no factory gives, and its folder."""
    model = cifar_resnet(20)
    plan = plan_for(model, X, GONE)
    pruned = apply_plan(model, plan).eval()
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.add_(0.01)
    folder = save_pruned(
        tmp_path / "pruned", pruned, plan, base=BASE, preprocessing={"size": 32}, metadata={"n": 1}
    )
    return folder, pruned


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert list(first) == list(second)
    for name, value in first.items():
        assert value.dtype == second[name].dtype
        assert torch.equal(value, second[name]), name


def test_a_new_process_loads_the_same_bits(saved: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, pruned = saved
    code = (
        "import sys, torch; from pathlib import Path; from srinit.artifact import load_pruned;"
        "from safetensors.torch import load_file, save_file;"
        "model = load_pruned(sys.argv[1], trust_code=True); x = load_file(sys.argv[2])['x'];"
        "save_file({'y': model(x).detach()}, sys.argv[3])"
    )
    from safetensors.torch import load_file, save_file

    save_file({"x": X}, tmp_path / "x.safetensors")
    arguments = [folder, tmp_path / "x.safetensors", tmp_path / "y.safetensors"]
    processes.run("-c", code, *map(str, arguments)).check_returncode()
    with torch.no_grad():
        assert torch.equal(load_file(tmp_path / "y.safetensors")["y"], pruned(X))


def test_the_base_may_be_a_module_a_function_or_a_source(saved: tuple[Path, nn.Module]) -> None:
    folder, pruned = saved
    module = cifar_resnet(20)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for base in (module, lambda: cifar_resnet(20), BASE):
        again = load_pruned(folder, base=base)
        assert_equal(again, pruned)
        assert not again.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    recipe = read_recipe(folder)
    assert (recipe.preprocessing, recipe.metadata) == ({"size": 32}, {"n": 1})


def test_code_from_a_recipe_is_refused_unless_trusted(saved: tuple[Path, nn.Module]) -> None:
    with pytest.raises(UnsafeError, match="trust_code=True"):
        load_pruned(saved[0])


def test_changed_weights_are_refused_by_name(saved: tuple[Path, nn.Module]) -> None:
    path = saved[0] / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(IntegrityError, match=WEIGHTS):
        load_pruned(saved[0], trust_code=True)


@pytest.mark.parametrize("keep", [0, 7, 1000])
def test_cut_off_weights_are_refused(saved: tuple[Path, nn.Module], keep: int) -> None:
    path = saved[0] / WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises((IntegrityError, CheckpointError), match=WEIGHTS):
        load_pruned(saved[0], trust_code=True)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema": "srinit.recipe/1"}', "\x00" * 9])
def test_junk_recipes_are_told(saved: tuple[Path, nn.Module], text: str) -> None:
    (saved[0] / RECIPE).write_text(text)
    with pytest.raises(ConfigError, match=RECIPE):
        load_pruned(saved[0], trust_code=True)


def test_weights_outside_the_folder_are_refused(saved: tuple[Path, nn.Module]) -> None:
    path = saved[0] / RECIPE
    body = json.loads(path.read_text())
    body["weights"] = "../elsewhere.safetensors"
    path.write_text(json.dumps(body))
    with pytest.raises(UnsafeError, match="elsewhere"):
        load_pruned(saved[0], trust_code=True)


def test_another_base_does_not_fit(saved: tuple[Path, nn.Module]) -> None:
    with pytest.raises(CheckpointError, match="does not fit"):
        load_pruned(saved[0], base=cifar_resnet(20, num_classes=7))


def test_tied_tensors_stay_tied_and_are_stored_once(tmp_path: Path) -> None:
    model = Tied().eval()
    model.head.weight = model.embed.weight
    tokens = torch.arange(10).reshape(2, 5)
    plan = plan_for(model, tokens, ("body.layers.1",))
    pruned = apply_plan(model, plan)
    assert pruned.head.weight is pruned.embed.weight
    save_pruned(tmp_path, pruned, plan, base="py:tied.py:make")
    again = load_pruned(tmp_path, base=Tied())  # built without the tie
    assert again.head.weight is again.embed.weight
    assert_equal(again, pruned)
    with torch.no_grad():
        assert torch.equal(again(tokens), pruned(tokens))


def test_half_precision_comes_back_as_it_was(tmp_path: Path) -> None:
    model = cifar_resnet(20)
    plan = plan_for(model, X, ("layer1.1",))
    pruned = apply_plan(model, plan).to(torch.bfloat16)
    save_pruned(tmp_path, pruned, plan, base=BASE)
    assert_equal(load_pruned(tmp_path, base=BASE), pruned)


@pytest.mark.parametrize(
    "base",
    [
        {"source": "timm:resnet18", "args": {"checkpoint_path": "other.pt"}},
        {"source": "torchvision:resnet18", "args": {"weights": "DEFAULT"}},
        {"source": "timm:hf-hub:somebody/model", "args": {}},
        {"source": "hf:../../elsewhere", "args": {}},
    ],
)
def test_a_base_that_would_fetch_or_read_other_files_is_refused(
    saved: tuple[Path, nn.Module], base: dict[str, Any]
) -> None:
    folder, _ = saved
    recipe = json.loads((folder / RECIPE).read_text("utf-8"))
    (folder / RECIPE).write_text(json.dumps({**recipe, "base": base}), "utf-8")
    with pytest.raises(UnsafeError, match="would fetch or read other files"):
        load_pruned(folder)


def test_modules_that_ask_for_a_version_are_told_theirs(tmp_path: Path) -> None:
    model = cifar_resnet(20)
    model.fc = Versioned(64, 10)
    pruned = apply_plan(model, plan_for(model, X, GONE)).eval()
    folder = save_pruned(tmp_path / "pruned", pruned, plan_for(model, X, GONE), base=BASE)
    again = load_pruned(folder, base=model).eval()
    assert_equal(pruned, again)
