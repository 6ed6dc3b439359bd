"""What fails silently in other networks is found, told, or made right."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import traps
from srinit.errors import ModelError
from srinit.surgery import bypassed, remove_units
from srinit.units import UnitMap, find_units
from srinit.units.bypass import RewriteCache, rewrite
from srinit.units.passthrough import PassThrough
from zoo import noise

BLOCKS = tuple(f"blocks.{i}" for i in range(4))


def make(kind: type[nn.Module]) -> tuple[nn.Module, Tensor, UnitMap]:
    model = kind().eval()
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.copy_(noise(*parameter.shape) * (0.3 + 0.01 * index))
    x = noise(2, traps.WIDTH)
    return model, x, find_units(model, x)


def reasons(units: UnitMap) -> dict[str, str]:
    return {lock.name: lock.reason for lock in units.locked}


def by_hand(model: nn.Module, gone: list[int], x: Tensor) -> Any:
    """The output with blocks skipped by somebody who knows the model."""
    skipped = copy.deepcopy(model)
    for index in gone:
        skipped.blocks[index].forward = lambda x, *rest: (x, *rest) if rest else x
    with torch.no_grad():
        return skipped(x)


@pytest.mark.parametrize("kind", [traps.Walked, traps.Glue, traps.Indexed])
@pytest.mark.parametrize("gone", [[0], [1], [3], [0, 2], [1, 2, 3]])
def test_lists_walked_in_step_keep_their_places(kind: type[nn.Module], gone: list[int]) -> None:
    model, x, units = make(kind)
    assert units.names == BLOCKS
    pruned = remove_units(model, [units[f"blocks.{i}"] for i in gone], example_inputs=x)
    assert torch.equal(pruned(x), by_hand(model, gone, x))


def test_a_plain_list_of_blocks_is_compacted_without_pass_throughs() -> None:
    model, x, units = make(traps.Head)
    pruned = remove_units(model, [units["blocks.0"], units["blocks.2"]], example_inputs=x)
    assert len(pruned.blocks) == 2
    assert not any(isinstance(module, PassThrough) for module in pruned.modules())
    assert torch.equal(pruned(x), by_hand(model, [0, 2], x))
    assert torch.equal(pruned.blocks[0].up.weight, model.blocks[1].up.weight)


def test_a_block_that_makes_what_later_blocks_use_is_a_provider() -> None:
    _, _, units = make(traps.Provider)
    assert units.names == BLOCKS[1:]
    assert reasons(units)["blocks.0"] == "dependency"


def test_a_block_without_which_an_attribute_is_missing_is_locked() -> None:
    _, _, units = make(traps.ReadAttribute)
    assert "blocks.0" not in units.names
    assert reasons(units)["blocks.0"] in ("dependency", "verification failed")
    assert units.names == BLOCKS[1:]


@pytest.mark.parametrize("kind", [traps.Tapped, traps.Pyramid])
def test_blocks_whose_output_is_used_beside_the_stream_are_taps(kind: type[nn.Module]) -> None:
    _, _, units = make(kind)
    tapped = BLOCKS if kind is traps.Tapped else ("blocks.1", "blocks.3")
    found = {name for name, reason in reasons(units).items() if reason == "side output"}
    # What the last block hands to the head is the stream itself.
    assert found | {"blocks.3"} == set(tapped) | {"blocks.3"}
    assert not found & set(units.names)


def test_blocks_called_twice_or_never_are_locked_with_the_count() -> None:
    _, _, units = make(traps.Twice)
    assert units.names == ("blocks.0", "blocks.2")
    assert reasons(units) == {"blocks.1": "shared", "blocks.3": "never called"}
    (shared,) = (lock for lock in units.locked if lock.reason == "shared")
    assert "2 times" in shared.detail


@pytest.mark.parametrize("kind", [traps.AskedFor, traps.Random, traps.Dicts])
def test_odd_but_harmless_networks_have_all_their_units(kind: type[nn.Module]) -> None:
    model, x, units = make(kind)
    assert units.names == BLOCKS
    for gone in ([units["blocks.0"]], list(units)[1:], list(units)):
        pruned = remove_units(model, gone, example_inputs=x)
        with bypassed(model, gone):
            expected = seeded(model, x)
        assert torch.equal(seeded(pruned, x), expected)


def seeded(model: nn.Module, x: Tensor) -> Tensor:
    from srinit.rng import isolated_rng

    with isolated_rng(0), torch.no_grad():
        return model(x)


def test_concatenation_that_merely_copies_is_no_unit() -> None:
    units = find_units(traps.concatenating(), noise(2, traps.WIDTH))
    assert len(units) == 0
    assert "no unit" in units.note


def snapshot(model: nn.Module) -> Any:
    return (
        {n: (id(t), t._version, t.clone()) for n, t in model.state_dict(keep_vars=True).items()},
        [(n, id(m), m.training, sorted(vars(m)), len(m._forward_hooks)) for n, m in
         model.named_modules()],
        torch.get_rng_state(),
        torch.backends.mha.get_fastpath_enabled(),
    )  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [traps.Head, traps.Provider, traps.Tapped, traps.Raises, traps.Random, traps.ReadAttribute],
)
@pytest.mark.parametrize("training", [True, False])
def test_the_search_leaves_no_trace_even_when_the_model_raises(
    kind: type[nn.Module], training: bool
) -> None:
    model = kind().train(training)
    model.blocks[0].eval()
    model.register_forward_hook(lambda *_: None)
    before = snapshot(model)
    if kind is traps.Raises:
        with pytest.raises(ModelError, match="sensor offline"):
            find_units(model, noise(2, traps.WIDTH))
    else:
        find_units(model, noise(2, traps.WIDTH))
    after = snapshot(model)
    assert before[0].keys() == after[0].keys()
    for name, (number, version, value) in before[0].items():
        assert after[0][name][:2] == (number, version), name
        assert torch.equal(value, after[0][name][2])
    assert before[1] == after[1]
    assert torch.equal(before[2], after[2])
    assert before[3] == after[3]


def test_transformer_layers_are_units_although_a_fused_kernel_hides_their_additions() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    units = find_units(model, noise(2, 5, 8))
    assert units.names == ("layers.0", "layers.1", "layers.2")
    assert len(remove_units(model, [units["layers.0"]], example_inputs=noise(2, 5, 8)).layers) == 2


@pytest.mark.parametrize("kind", [traps.Held, traps.KeptForwards])
def test_blocks_that_are_run_from_elsewhere_are_locked(kind: type[nn.Module]) -> None:
    _, _, units = make(kind)
    assert not units.names
    assert set(reasons(units).values()) == {"verification failed"}
    assert any("something besides its parent" in lock.detail for lock in units.locked)


def test_blocks_without_which_others_are_left_out_are_locked() -> None:
    _, _, units = make(traps.StopsEarly)
    assert units.names == ("blocks.3",)
    (first, *_) = units.locked
    assert "blocks.1 is no longer called" in first.detail


def test_blocks_that_make_a_number_of_their_own_are_providers() -> None:
    _, _, units = make(traps.MakesNumbers)
    assert set(reasons(units).values()) == {"dependency"}
    assert "a number (14)" in units.locked[0].detail


@pytest.mark.parametrize("kind", [traps.HandsNumbersOn, traps.NamedTuples, traps.Dataclasses])
def test_numbers_that_are_only_passed_on_hold_for_other_inputs(kind: type[nn.Module]) -> None:
    model, x, units = make(kind)
    assert units.names == BLOCKS
    other = noise(5, traps.WIDTH)
    for gone in ([units["blocks.1"]], list(units)[::2], list(units)):
        pruned = remove_units(model, gone, example_inputs=x)
        left = copy.deepcopy(model)
        with bypassed(left, gone):
            assert torch.equal(pruned(other), left(other))
        if len(gone) == 4:
            assert torch.equal(pruned(other), model.head(other) * 5)


def test_weights_that_only_the_branch_reads_go_with_it() -> None:
    model, x, units = make(traps.OwnWeightsInBranch)
    unit = units["blocks.1"]
    assert unit.params == sum(
        p.numel() for n, p in model.blocks[1].named_parameters() if not n.startswith("short")
    )
    pruned = remove_units(model, list(units), example_inputs=x)
    assert sorted(name for name, _ in pruned.blocks[1].named_parameters()) == [
        "short.bias", "short.weight",
    ]  # fmt: skip
    pruned(x).sum().backward()
    assert all(parameter.grad is not None for parameter in pruned.parameters())
    assert model.blocks[1].gamma is not None


def test_a_buffer_that_the_shortcut_reads_is_read_anew() -> None:
    model, x, units = make(traps.OwnWeightsInBranch)
    pruned = remove_units(model, [units["blocks.0"]], example_inputs=x)
    entry = pruned.blocks[0]
    entry.table.fill_(3.0)
    assert torch.equal(entry(x), model.blocks[0].short(x) * 6)


@pytest.mark.parametrize("gone", [[0], [1, 2], [0, 1, 2, 3]])
def test_a_state_that_is_none_in_training_mode_is_handed_on_as_none(gone: list[int]) -> None:
    model, x, units = make(traps.StateInEvaluation)
    assert units.names == BLOCKS
    with bypassed(model, [units[f"blocks.{i}"] for i in gone]):
        evaluated = model(x)
        trained = model.train()(x)
    assert torch.equal(evaluated, trained)


def test_pass_throughs_look_into_nothing() -> None:
    entries = [{"argument": [1, "state", 0]}, {"argument": [1, "state", 1]}]
    keyed = {"keys": {"argument": [1, "state", "keys"]}}
    one = torch.ones(1)
    assert PassThrough({"list": entries})(state=None) is None
    assert PassThrough({"list": entries})(state=[one, one]) == [one, one]
    assert PassThrough({"dict": keyed, "class": ""})(state=None) is None
    assert PassThrough({"argument": [1, "state", 0]})(state=None) is None
    assert PassThrough({"zeros": [1, "state", 0]})(state=None) is None
    assert PassThrough({"record": keyed, "like": [1, "state"]})(state=None) is None


def test_branches_of_the_network_itself_are_left_out_together() -> None:
    model = traps.Inline().eval()
    x = noise(2, traps.WIDTH)
    units = find_units(model, x)
    assert len(units) == 8
    made = RewriteCache()
    for unit in units:
        rewrite(model, unit, made)  # each alone, as the search for units has them
    with torch.no_grad(), bypassed(model, units, rewrites=made):
        assert torch.equal(model(x), model.head(x))
    assert type(model) is traps.Inline


def test_sites_that_differ_in_a_plain_value_are_read_apart() -> None:
    model = traps.Scaled().eval()
    x = noise(2, traps.WIDTH)
    units = find_units(model, x, level="sublayer")
    made = RewriteCache()
    for unit in units:
        rewrite(model, unit, made)
    for gone in units:
        with torch.no_grad(), bypassed(model, gone):
            alone = model(x)
        with torch.no_grad(), bypassed(model, gone, rewrites=made):
            assert torch.equal(model(x), alone)
    assert len({(unit.site or unit.name) for unit in units}) == 3
    assert sum(map(len, made.readings.sites.values())) == 2  # the two that are alike once


def test_weights_that_the_parent_scales_in_training_mode_may_be_missing() -> None:
    model, x, units = make(traps.Rescales)
    assert units.names == BLOCKS
    pruned = remove_units(model, [units["blocks.1"]], example_inputs=x)
    before = [parameter.clone() for parameter in pruned.parameters()]
    pruned.train()(x)
    pruned.eval()(x)
    assert all(map(torch.equal, before, pruned.parameters()))
    skip = next(module for module in pruned.modules() if isinstance(module, PassThrough))
    assert skip.up.weight.shape == (2 * traps.WIDTH, traps.WIDTH)
    with pytest.raises(RuntimeError):
        skip.up.weight @ torch.ones(traps.WIDTH)  # a value is asked for
