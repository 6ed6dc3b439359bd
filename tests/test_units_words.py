"""A word chooses among units and never changes what removing one means."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest
import torch
from torch import nn

from srinit.rng import isolated_rng
from srinit.surgery import remove_units
from srinit.units import UnitMap, find_units
from zoo import Residual, noise
from zoo_loops import Deep, Joined, Loop, Wrapped

X = noise(2, 5, 8)


def make(kind: Any) -> nn.Module:
    with isolated_rng(0):
        return kind().eval()


def stack(kind: Any) -> nn.Module:
    return make(lambda: nn.Sequential(kind(), kind(), nn.Linear(8, 3)))


def reasons(units: UnitMap) -> dict[str, str]:
    return {lock.name: lock.reason for lock in units.locked}


@pytest.mark.parametrize(
    "word",
    [
        {},
        {"select": ["attn.1"]},
        {"select": ["attn.*"]},
        {"select": ["attn"]},
        {"select": [nn.Linear]},
        {"select": ["attn.1"], "level": "sublayer"},
        {"select": ["attn.1"], "level": "stage"},
        {"select": ["attn.1"], "include_plain": True},
        {"rule": lambda name, _module: name == "attn.1"},
        {"rule": lambda _name, module: isinstance(module, nn.Linear)},
        {"include_plain": True},
    ],
)
def test_a_branch_in_the_parents_loop_goes_the_same_way_by_any_word(word: dict[str, Any]) -> None:
    model = make(Loop)
    units = find_units(model, X, **word)
    pruned = remove_units(model, [units["attn.1"]], example_inputs=X)
    hidden = X + model.attn[0](X)
    assert torch.equal(pruned(X), model.head(hidden + model.attn[2](hidden)))


@pytest.mark.parametrize("level", ["block", "sublayer", "stage"])
def test_the_attention_of_a_vit_leaves_its_shortcut_at_every_level(level: Any) -> None:
    timm = pytest.importorskip("timm")
    model = make(lambda: timm.create_model("test_vit"))
    images = noise(2, 3, 160, 160)
    units = find_units(model, images, level=level, select=["blocks.1.attn"])
    assert units.names == ("blocks.1.attn",)
    pruned = remove_units(model, units.removable, example_inputs=images)
    by_hand = copy.deepcopy(model)
    block = by_hand.blocks[1]
    block.forward = lambda x, **_: x + block.mlp(block.norm2(x))
    with torch.no_grad():
        assert torch.equal(pruned(images), by_hand(images))


def test_the_function_of_a_wrapper_is_its_branch_and_a_part_of_that_is_no_unit() -> None:
    model = stack(Wrapped)
    units = find_units(model, X, select=["1.fn"])
    pruned = remove_units(model, [units["1.fn"]], example_inputs=X)
    assert torch.equal(pruned(X), model[2](model[0](X)))
    deeper = find_units(model, X, select=["1.fn.1"])
    assert not deeper.names
    assert reasons(deeper) == {"1.fn.1": "part of a unit"}
    assert "select=['1']" in deeper.locked[0].detail


def test_what_goes_around_a_module_keeps_it_from_being_handed_on() -> None:
    model = make(Joined)
    named = find_units(model, X, select=["first", "gate", "one", "two", "head"])
    assert named.names == ("first",)
    assert reasons(named) == {
        "gate": "joined", "one": "joined", "two": "joined", "head": "shape change",
    }  # fmt: skip
    assert find_units(model, X, include_plain=True).names == ("first",)


def test_the_middle_of_a_branch_is_no_plain_unit_and_a_layer_outside_is_one() -> None:
    model = make(Deep)
    assert find_units(model, X, include_plain=True).names == ("first", "up")
    units = find_units(model, X, select=["first", "mid"])
    assert units.names == ("first",)
    assert reasons(units) == {"mid": "part of a unit"}
    pruned = remove_units(model, units.removable, example_inputs=X)
    assert torch.equal(pruned(X), model.head(X + model.mid(model.up(X).relu())))


def test_a_rule_that_names_no_unit_is_told_why() -> None:
    units = find_units(make(Deep), X, rule=lambda name, _: name in ("head", "mid"))
    assert reasons(units) == {"mid": "part of a unit", "head": "shape change"}


def test_keep_protects_the_unit_that_holds_a_module() -> None:
    model = stack(lambda: Residual(8))
    units = find_units(model, X, keep=["1.down"])
    assert units.names == ("0",)
    assert units.locked[0].reason == "kept"
    assert "1.down would go with it" in units.locked[0].detail


def test_every_reason_has_a_text_in_every_language_of_the_report() -> None:
    from srinit.report.text import catalog
    from srinit.units.records import Reason

    for reason in get_args(Reason):
        for language in ("en", "ja"):
            assert catalog(language)[f"lock.{reason.replace(' ', '_')}"]


def test_the_estimate_reads_the_units_as_the_run_does() -> None:
    from srinit.pipeline import estimate
    from srinit.runs.artifacts import UNITS
    from srinit.steps.table import TABLE

    assert estimate.looking.units is TABLE.by_output[UNITS.name].call
