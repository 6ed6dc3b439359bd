"""How strong the penalty of a realignment is: the fewer examples, the stronger."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from srinit.compensation import compensated, realign
from srinit.compensation.answers import answers, divergence
from srinit.rng import generator
from srinit.surgery import remove_with_origins
from test_compensation import made
from test_compensation_choice import cut_network


def test_the_fewer_examples_the_stronger_the_penalty_and_all_maps_say_it() -> None:
    found = {}
    for examples in (8, 96):
        model, batches, units = made("basic blocks", examples)
        x = batches[0][:2]
        cut, origins = remove_with_origins(model, [units[units.names[1]]], example_inputs=x)
        update = realign(model, cut, origins, batches)
        found[examples] = {each.strength for each in update.solved}
    assert found == {8: {2 / 8}, 96: {2 / 96}}


def test_linear_maps_keep_their_strength_and_a_factor_multiplies_it() -> None:
    model, batches, units = made("pre-norm transformer")
    x = batches[0][:2]
    cut, origins = remove_with_origins(model, [units[units.names[1]]], example_inputs=x)
    update = realign(model, cut, origins, batches, factor=10)
    assert {each.strength for each in update.solved} == {1.0}


def noisy(examples: int) -> tuple[Any, Any, Any, list[Tensor], list[Tensor]]:
    """Return a network, a cut of it, origins, few or many examples, and fresh ones."""
    model, pruned, origins, _ = cut_network(16)
    noise = generator("strength")
    fresh = [torch.randn(200, 3, 6, 6, generator=noise)]
    return (
        model,
        pruned,
        origins,
        list(torch.randn(examples, 3, 6, 6, generator=noise).split(32)),
        fresh,
    )


@pytest.mark.parametrize("examples", [8, 24])
def test_the_rule_for_few_examples_is_nearer_on_fresh_ones_than_that_for_many(
    examples: int,
) -> None:
    far = []
    for strength in (None, 1e-3):
        model, pruned, origins, few, fresh = noisy(examples)
        realign(model, pruned, origins, few, strength=strength)
        pairs = answers(model, fresh), answers(pruned, fresh)
        far.append(float(divergence(*pairs, fresh, "probabilities").mean()))
    assert far[0] < far[1]


def test_the_record_says_which_strengths_were_tried_and_what_was_not() -> None:
    model, pruned, origins, few, _ = noisy(24)
    choice = compensated(model, pruned, origins, few).choice
    tried = [each.name for each in choice.candidates]
    assert tried[:4] == ["nothing", "recalibrated", "realigned", "realigned, tenfold penalty"]
    skipped = {each.name: each.reason for each in choice.skipped}
    assert "recipe" in skipped["patch"]
    assert not set(tried) & set(skipped)
    taken = next(each for each in choice.candidates if each.name == choice.chosen)
    assert taken.gain is not None
    assert taken.gain.low <= taken.gain.known <= taken.gain.high


def test_with_many_examples_the_chosen_penalty_is_weak_and_further_ones_are_not_tried() -> None:
    model, pruned, origins, many, _ = noisy(520)
    choice = compensated(model, pruned, origins, many).choice
    assert {each.strength for each in choice.solved} == {2 / 520}
    reasons = {each.name: each.reason for each in choice.skipped}
    assert reasons["realigned, tenfold penalty"] == "many examples"
