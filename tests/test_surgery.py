"""Levels, own rules and stand-ins, branches, plain runs; and networks that go on working after."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srinit.cost import count_cost
from srinit.errors import ConfigError, PlanError, SurgeryError
from srinit.rng import isolated_rng
from srinit.surgery import bypassed, remove_units, stand_ins
from srinit.units import find_units
from zoo import InlineResidual, Residual, noise
from zoo_images import Down
from zoo_plain import Half
from zoo_tokens import Layer

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "cifar10"


def build(make: Any) -> nn.Module:
    with isolated_rng(0):
        return make().eval()


def encoder() -> nn.Module:
    return build(lambda: nn.Sequential(*(Layer() for _ in range(3)), nn.Linear(8, 4)))


def downsampler() -> nn.Module:
    return build(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Down(), nn.Flatten()))


TOKENS, IMAGES = noise(2, 5, 8), noise(2, 3, 10, 10)


def output(model: nn.Module, inputs: Any) -> Tensor:
    with torch.no_grad():
        return model(inputs)


def test_block_level_finds_layers_and_sublayer_level_their_halves() -> None:
    model = encoder()
    assert find_units(model, TOKENS).names == ("0", "1", "2")
    halves = find_units(model, TOKENS, level="sublayer")
    assert [unit.name for unit in halves][:2] == ["0.attn", "0.mlp"]
    assert {unit.kind for unit in halves} == {"sublayer"}


def test_a_sublayer_leaves_with_its_norm_and_the_other_half_stays() -> None:
    model = encoder()
    unit = find_units(model, TOKENS, level="sublayer")["1.attn"]
    pruned = remove_units(model, [unit], example_inputs=TOKENS)
    layer = model[1]
    expected = copy.deepcopy(model)
    expected[1].forward = lambda x: x + layer.mlp(layer.norm2(x))
    assert torch.equal(output(pruned, TOKENS), output(expected, TOKENS))
    assert isinstance(pruned[1], Layer)
    saved = count_cost(model, TOKENS).params - count_cost(pruned, TOKENS).params
    assert (
        saved
        == unit.params
        == sum(p.numel() for p in (*layer.attn.parameters(), *layer.norm1.parameters()))
    )


def test_additions_in_the_forward_of_the_network_itself_are_branch_units() -> None:
    model, x = build(InlineResidual), noise(2, 8)
    units = find_units(model, x)
    assert {unit.kind for unit in units} == {"branch"}
    assert len(units) == 3
    pruned = remove_units(model, units.removable, example_inputs=x)
    assert torch.equal(output(pruned, x), output(model.head, x))
    assert [name for name, _ in pruned.named_parameters()] == ["head.weight", "head.bias"]
    with bypassed(model, units.removable):
        assert torch.equal(output(model, x), output(pruned, x))
    assert type(model) is InlineResidual


def test_a_block_that_changes_the_shape_keeps_its_shortcut_class_and_modes() -> None:
    model = downsampler()
    units = find_units(model, IMAGES)
    assert [(unit.name, unit.kind) for unit in units] == [("1", "branch")]
    assert units["1"].parts == ("1.conv1", "1.conv2")
    pruned = remove_units(model, units.removable, example_inputs=IMAGES)
    assert isinstance(pruned[1], Down)
    expected = output(model[1].shortcut, output(model[0], IMAGES)).flatten(1)
    assert torch.equal(output(pruned, IMAGES), expected)
    with isolated_rng(0):
        dropped = output(pruned.train(), IMAGES)
    assert (dropped == 0).float().mean() > 0.3


def test_select_offers_what_is_named_and_keep_protects() -> None:
    model = encoder()
    assert find_units(model, TOKENS, select=["1.mlp"]).names == ("1.mlp",)
    assert find_units(model, TOKENS, select=[Layer], keep=["0"]).names == ("1", "2")
    kept = find_units(model, TOKENS, keep=["class:Layer"])
    assert [lock.reason for lock in kept.locked] == ["kept"] * 3
    with pytest.raises(ConfigError, match=r"nearest: '1\.mlp'"):
        find_units(model, TOKENS, select=["1.mpl"])


def test_a_rule_of_the_users_decides_which_modules_are_units() -> None:
    units = find_units(encoder(), TOKENS, rule=lambda name, module: name.endswith("mlp"))
    assert units.names == ("0.mlp", "1.mlp", "2.mlp")


def test_a_stand_in_of_the_users_takes_the_place_of_a_unit() -> None:
    def own(name: str, module: nn.Module) -> nn.Module | None:
        return Half() if name == "1" else None

    model = encoder()
    units = find_units(model, TOKENS, passthrough=own)
    pruned = remove_units(model, [units["1"]], example_inputs=TOKENS, passthrough=own)
    expected = output(model[3], output(model[2], output(model[0], TOKENS) / 2))
    assert torch.equal(output(pruned, TOKENS), expected)
    assert stand_ins(pruned) == ("1",)


def test_on_removed_gets_the_copy_and_the_names_before_the_last_check() -> None:
    model, seen = encoder(), []
    units = find_units(model, TOKENS)
    pruned = remove_units(
        model,
        [units["0"]],
        example_inputs=TOKENS,
        on_removed=lambda m, names: seen.append((m, names)),
    )
    assert seen == [(pruned, ("0",))]
    with pytest.raises(SurgeryError, match="without 0 the network does not run"):
        remove_units(
            model,
            [units["0"]],
            example_inputs=TOKENS,
            on_removed=lambda m, names: m.append(nn.Linear(3, 3)),
        )


def test_vgg_has_plain_units_and_only_on_demand() -> None:
    from srinit.networks import load_model

    model, x = load_model(f"py:{EXAMPLES / 'vgg.py'}:vgg16_bn"), noise(2, 3, 32, 32)
    assert "include_plain" in find_units(model, x).note
    units = find_units(model, x, include_plain=True)
    convolutions = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40]
    channels = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    keeps = [c for i, c in enumerate(convolutions) if channels[i] == channels[i + 1]]
    assert units.names == tuple(f"features.{index}" for index in keeps)
    pruned = remove_units(model, [units["features.20"], units["features.40"]], example_inputs=x)
    assert not stand_ins(pruned)
    assert len(pruned.features) == len(model.features) - 6
    saved = 256 * 256 * 9 + 2 * 256 + 512 * 512 * 9 + 2 * 512
    assert count_cost(model, x).params - count_cost(pruned, x).params == saved


def test_observing_hooks_stay_with_the_caller() -> None:
    model, seen = encoder(), []
    units = find_units(model, TOKENS)
    model[2].register_forward_hook(lambda module, args, out: seen.append(1))
    pruned = remove_units(model, [units["0"]], example_inputs=TOKENS)
    seen.clear()
    output(pruned, TOKENS)
    assert seen == []
    output(model, TOKENS)
    assert seen == [1]


def test_the_pruned_network_trains_copies_and_exports() -> None:
    model = downsampler()
    pruned = remove_units(model, find_units(model, IMAGES).removable, example_inputs=IMAGES).train()
    pruned(IMAGES).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pruned.parameters())
    twin = copy.deepcopy(pruned.eval())
    assert torch.equal(output(twin, IMAGES), output(pruned, IMAGES))
    exported = torch.export.export(pruned, (IMAGES,), strict=False).module()
    assert torch.equal(output(exported, IMAGES), output(pruned, IMAGES))


def test_a_plan_without_inputs_or_with_unknown_names_is_refused() -> None:
    model = build(lambda: nn.Sequential(Residual(8), Residual(8)))
    unit = find_units(model, noise(2, 8))["0"]
    with pytest.raises(PlanError, match="pass example_inputs"):
        remove_units(model, [unit])
    other = build(lambda: nn.Sequential(nn.Linear(8, 8)))
    with pytest.raises(PlanError, match=r"removes '1', and Sequential has no such"):
        remove_units(
            nn.Sequential(other), [find_units(model, noise(2, 8))["1"]], example_inputs=noise(2, 8)
        )
