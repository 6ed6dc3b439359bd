"""Pruned Hugging Face networks on disk: the recipe holds the config, and no folder is needed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import processes
from srinit.artifact import RECIPE, load_pruned, save_pruned
from srinit.errors import ConfigError
from srinit.networks import load_model, self_contained
from srinit.plan import Prefix, PrunePlan, Removal
from srinit.surgery import apply_plan
from srinit.units import find_units

transformers = pytest.importorskip("transformers")
TOKENS = {"input_ids": torch.arange(12).reshape(2, 6) % 50}


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Module]:
    """A pruned BERT without the folder that it was built from."""
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=4, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=12, architectures=["BertForMaskedLM"],
    )  # fmt: skip
    config.save_pretrained(tmp_path / "bert")
    args = {"auto": "AutoModelForMaskedLM"}
    model = load_model("hf:bert/config.json", args=args, root=tmp_path)
    units = find_units(model, TOKENS)
    gone = [unit for unit in units.removable if unit.name.endswith((".1", ".2"))]
    assert len(gone) == 2
    plan = PrunePlan(
        remove=tuple(Removal(unit=unit) for unit in gone),
        ranking=tuple(unit.name for unit in gone),
        prefixes=tuple(Prefix(num_removed=i, params=0, flops=0) for i in range(3)),
        target={"remove": [unit.name for unit in gone]}, criterion="by hand", inputs=units.inputs,
    )  # fmt: skip
    pruned = apply_plan(model, plan).eval()
    base = {"source": "hf:bert", "args": args, "root": str(tmp_path)}
    folder = save_pruned(tmp_path / "pruned", pruned, plan, base=base)
    shutil.rmtree(tmp_path / "bert")
    return folder, pruned


def test_a_new_process_loads_it_without_the_folder(saved: tuple[Path, nn.Module]) -> None:
    folder, pruned = saved
    code = (
        "import sys, torch; from srinit import load_pruned;"
        "model = load_pruned(sys.argv[1]);"
        "ids = torch.arange(12).reshape(2, 6) % 50;"
        "print(model(input_ids=ids).logits.double().sum().item(), model.config.num_hidden_layers)"
    )
    done = processes.run("-c", code, str(folder))
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = pruned(**TOKENS).logits.double().sum().item()
    assert done.stdout.split() == [str(expected), "2"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 4000),
        ("vocab_size", 10**8),
        ("hidden_size", 2**20),
        ("intermediate_size", -(10**9)),
        ("model_type", "no-such-type"),
        ("model_type", 7),
    ],
)
def test_an_absurd_config_is_refused_before_memory_is_taken(
    saved: tuple[Path, nn.Module], key: str, value: Any
) -> None:
    folder, _ = saved
    recipe = json.loads((folder / RECIPE).read_text("utf-8"))
    recipe["base"]["args"]["config"][key] = value
    (folder / RECIPE).write_text(json.dumps(recipe), "utf-8")
    with pytest.raises(ConfigError, match="config"):
        load_pruned(folder)


def test_an_absurd_argument_of_a_registry_is_refused(saved: tuple[Path, nn.Module]) -> None:
    folder, _ = saved
    recipe = json.loads((folder / RECIPE).read_text("utf-8"))
    recipe["base"] = {"source": "torchvision:resnet18", "args": {"num_classes": 10**12}}
    (folder / RECIPE).write_text(json.dumps(recipe), "utf-8")
    with pytest.raises(ConfigError, match="num_classes = 1000000000000"):
        load_pruned(folder)


def test_numbers_that_json_does_not_know_survive_in_the_config(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, limits=[0.0, float("inf"), -float("inf")],
    )  # fmt: skip
    config.save_pretrained(tmp_path / "bert")
    args = self_contained({"auto": "AutoModel"}, "bert", tmp_path)
    again = load_model("hf:bert", args=json.loads(json.dumps(args, allow_nan=False)))
    assert again.config.limits == [0.0, float("inf"), -float("inf")]
