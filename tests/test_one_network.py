"""Units and plans hold for one network, and everything of it comes back from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import srinit
from srinit.criteria import score_units
from srinit.errors import CheckpointError, PlanError
from srinit.plan import PrunePlan, Removal
from srinit.rng import isolated_rng
from srinit.trial import removal_distances, try_removals
from srinit.units.fingerprint import fingerprint
from srinit.units.records import UnitMap
from test_copies import BATCHES, FRESH, Block, Net, X, net


def planned(units: UnitMap, *names: str) -> PrunePlan:
    """A plan written by hand, read from its file."""
    plan = PrunePlan(
        remove=tuple(Removal(unit=units[name]) for name in names),
        ranking=names, prefixes=(), target={}, criterion="", inputs=units.inputs,
    )  # fmt: skip
    return PrunePlan.from_json(plan.to_json())


def test_a_plan_is_not_carried_out_twice() -> None:
    model = net()
    plan = planned(srinit.find_units(model, X), "blocks.1")
    pruned = srinit.apply_plan(model, plan)
    with pytest.raises(PlanError, match=r"found in another network.*removed from it already"):
        srinit.apply_plan(pruned, plan)


USES = {
    "measure_sensitivity": lambda m, u: srinit.measure_sensitivity(m, u, BATCHES),
    "score_units": lambda m, u: score_units(m, u, BATCHES, criterion="position"),
    "try_removals": lambda m, u: try_removals(m, u, [["blocks.0"]], BATCHES, example_inputs=X),
    "removal_distances": lambda m, u: removal_distances(m, u, BATCHES, example_inputs=X),
}


@pytest.mark.parametrize("use", USES)
def test_units_of_another_network_are_refused(use: str) -> None:
    model = net()
    units = srinit.find_units(model, X)
    pruned = srinit.apply_plan(model, planned(units, "blocks.1"))
    with pytest.raises(PlanError, match=r"'blocks\.0' was found in another network"):
        USES[use](pruned, units)


def other_head(model: Net) -> nn.Module:
    model.head = nn.Linear(8, 5)
    return model


def other_class(model: Net) -> nn.Module:
    model.blocks[1].__class__ = type("Other", (Block,), {})
    return model


@pytest.mark.parametrize("change", [other_head, other_class])
def test_a_network_with_other_shapes_or_classes_is_another(change: Any) -> None:
    plan = planned(srinit.find_units(net(), X), "blocks.1")
    with pytest.raises(PlanError, match=r"'blocks\.1' was found in another network"):
        srinit.apply_plan(change(net()), plan)


def trained(model: Net) -> tuple[nn.Module, Tensor]:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    return model, X


def frozen(model: Net) -> tuple[nn.Module, Tensor]:
    return model.requires_grad_(False), X


@pytest.mark.parametrize("change", [trained, frozen, lambda m: (m.double(), X.double())])
def test_the_same_network_trained_on_or_in_another_format_takes_the_plan(change: Any) -> None:
    plan = planned(srinit.find_units(net(), X), "blocks.1")
    model, inputs = change(net())
    pruned = srinit.apply_plan(model, plan, example_inputs=inputs)
    with torch.no_grad():
        expected = model.head(model.blocks[2](model.blocks[0](model.stem(inputs))))
        assert torch.equal(pruned(inputs), expected)


def test_a_plan_of_an_earlier_version_says_nothing_of_its_network() -> None:
    model = net()
    text = planned(srinit.find_units(model, X), "blocks.1").to_json()
    old = text.replace(f'"network": "{fingerprint(model)}"', '"network": ""')
    assert old != text
    assert len(srinit.apply_plan(model, PrunePlan.from_json(old)).blocks) == 2  # type: ignore[arg-type]


class Tuned(Net):
    """Keeps what it computes with in other places than its state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(8), persistent=False)
        self.register_buffer("shift", None)
        self.register_buffer("grown", torch.zeros(1), persistent=False)
        self.factor = torch.ones(())
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.stem.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x) * self.scale * self.factor + self.grown.sum()
        x = x if self.shift is None else x + self.shift
        return self.head(self.tied(self.blocks(x)))


def change(model: nn.Module) -> None:
    net: Any = model
    net.scale.mul_(0.5)
    net.shift = torch.full((8,), 0.25)
    net.grown = torch.arange(3.0)
    net.factor = torch.tensor(3.0)
    net.head.bias = None
    net.stem.bias.requires_grad_(False)


def saved(model: nn.Module, folder: Path) -> nn.Module:
    plan = planned(srinit.find_units(model, X), "blocks.1")
    pruned = srinit.apply_plan(model, plan)
    srinit.save_pruned(folder, pruned, plan, base="py:model.py:build")
    return pruned


def test_what_a_state_dict_leaves_out_comes_back_bit_for_bit(tmp_path: Path) -> None:
    model = net(Tuned)
    change(model)
    pruned = saved(model, tmp_path)
    loaded: Any = srinit.load_pruned(tmp_path, base=lambda: net(Tuned))
    with torch.no_grad():
        assert torch.equal(loaded(FRESH), pruned(FRESH))
        assert not torch.equal(loaded(FRESH), srinit.apply_plan(net(Tuned), planned(
            srinit.find_units(net(Tuned), X), "blocks.1"))(FRESH))  # fmt: skip
    assert loaded.head.bias is None
    assert loaded.tied.weight is loaded.stem.weight
    flags = {name: p.requires_grad for name, p in loaded.named_parameters()}
    assert flags == {name: p.requires_grad for name, p in pruned.named_parameters()}
    assert "scale" not in loaded.state_dict()


def test_a_tensor_that_has_no_place_in_the_base_is_named(tmp_path: Path) -> None:
    model = net()
    model.register_buffer("forward_scale", torch.ones(1), persistent=False)
    saved(model, tmp_path)

    def base() -> nn.Module:
        made = net()
        vars(made)["forward_scale"] = "a word"
        return made

    with pytest.raises(CheckpointError, match="holds 'forward_scale', for which Net has no place"):
        srinit.load_pruned(tmp_path, base=base)


def test_a_rotary_frequency_changed_after_building_is_kept(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip

    def build() -> nn.Module:
        with isolated_rng(0):
            return transformers.LlamaForCausalLM(config).eval()

    model: Any = build()
    model.model.rotary_emb.inv_freq.mul_(0.5)
    inputs = {"input_ids": torch.arange(12).reshape(2, 6)}
    plan = planned(srinit.find_units(model, inputs), "model.layers.1")
    pruned = srinit.apply_plan(model, plan)
    srinit.save_pruned(tmp_path, pruned, plan, base="py:model.py:build")
    loaded = srinit.load_pruned(tmp_path, base=build)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, pruned(**inputs).logits)
