"""Trials end once their cost is known well enough, whatever the order of the examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from planted import Planted, batches_of, planted_data
from srinit.evaluate.chunks import by_content
from srinit.rng import generator
from srinit.stats.looks import Looked, Stop
from srinit.trial import LOOK, Trial, try_removals
from srinit.units import find_units
from test_deciding import Played, SaidError, convolutional, labeled
from zoo import noise


def tried(data: Any, **more: Any) -> tuple[Trial, ...]:
    model = Planted()
    units = find_units(model, data[0][0][:2])
    options = {"example_inputs": data[0][0][:2], "half_width": 0.03, **more}
    return try_removals(model, units, [("blocks.0",), ("blocks.1",)], data, **options)


def test_a_clear_trial_ends_early_and_its_interval_covers_what_all_examples_say() -> None:
    data = batches_of(*planted_data(1500))
    whole = tried(data, half_width=None)
    found = tried(data)
    for one, all_of_it in zip(found, whole, strict=True):
        assert all_of_it.cost.num_examples == 1500
        assert one.cost.num_examples < 1500
        assert one.cost.num_examples % LOOK == 0
        assert one.stopped == "precise"
        assert one.cost.high - one.cost.low <= 0.06 + 1e-9
        assert one.cost.low <= (all_of_it.cost.drop or 0.0) <= one.cost.high
    assert found[1].cost.drop == 0


def test_a_trial_ends_where_the_side_of_the_limit_is_clear() -> None:
    data = batches_of(*planted_data(500))
    model = Planted()
    units = find_units(model, data[0][0][:2])
    options: dict[str, Any] = {"example_inputs": data[0][0][:2], "half_width": 0.01}
    (plain,) = try_removals(model, units, [("blocks.1",)], data, **options)
    (found,) = try_removals(model, units, [("blocks.1",)], data, max_drop=0.1, **options)
    assert (plain.stopped, found.stopped) == ("", "decided")
    assert found.cost.high <= 0.1
    assert found.cost.num_examples < plain.cost.num_examples == 500


def test_the_result_does_not_depend_on_how_the_examples_were_served() -> None:
    x, target = planted_data(700)
    order = torch.randperm(700, generator=generator("served"))
    sorted_by_class = tried(batches_of(x, target))
    assert tried(batches_of(x[order], target[order], size=33)) == sorted_by_class
    assert tried(batches_of(x, target, size=700)) == sorted_by_class


def test_the_result_does_not_depend_on_what_is_tried_beside_it_nor_on_the_processes() -> None:
    data = batches_of(*planted_data(700))
    model = Planted()
    units = find_units(model, data[0][0][:2])
    alone = tried(data)
    for number, name in enumerate(("blocks.0", "blocks.1")):
        options: dict[str, Any] = {"example_inputs": data[0][0][:2], "half_width": 0.03}
        assert try_removals(model, units, [(name,)], data, **options) == alone[number : number + 1]
    said = []
    for rank in (0, 1):
        with pytest.raises(SaidError) as share:
            tried(data, ranks=Played(rank))
        said.append(share.value.args[0])
    assert [tried(data, ranks=Played(rank, said)) for rank in (0, 1)] == [alone, alone]


def test_what_is_surely_farther_is_given_up_and_says_on_how_many_examples() -> None:
    net = convolutional(6)
    with torch.no_grad():  # sure answers of all classes
        net[5].weight *= 5
        net[5].bias -= net(noise(64, 3, 8, 8)).mean(0)
    data = labeled(net, 400)
    units = find_units(net, data[0][0][:2])
    options: dict[str, Any] = {
        "example_inputs": data[0][0][:2], "fit": [noise(64, 3, 8, 8, seed=5)], "precision": "keep",
    }  # fmt: skip
    (found,) = try_removals(net, units, [units.names[1:5]], data, half_width=0.01, **options)
    (whole,) = try_removals(net, units, [units.names[1:5]], data, **options)
    assert found.cut is not None
    assert (found.after, whole.after) == ("realigned", "realigned")
    assert found.cut.num_examples < found.cost.num_examples == 400
    assert found.cost.drop == pytest.approx(whole.cost.drop)


def test_one_look_at_all_examples_has_the_interval_of_one_look() -> None:
    data = batches_of(*planted_data(LOOK))
    assert tried(data) == tried(data, half_width=None)


@pytest.mark.parametrize("half_width", [0.0, -0.1, 1.5])
def test_a_precision_that_is_none_is_refused(half_width: float) -> None:
    with pytest.raises(ValueError, match=r"half_width must lie in \(0, 1\], found"):
        tried(batches_of(*planted_data(50)), half_width=half_width)


def test_texts_of_several_lengths_stay_in_their_batches() -> None:
    batches = [
        ({"input_ids": torch.arange(6).reshape(2, 3) + i}, torch.tensor([i, 1])) for i in range(3)
    ]
    batches.append(({"input_ids": torch.ones(2, 5, dtype=torch.long)}, torch.tensor([0, 1])))
    found = by_content(batches, 3)
    assert sorted(map(id, found)) == sorted(map(id, batches))
    assert [id(each) for each in found] == [id(each) for each in by_content(batches[::-1], 3)]
    assert [len(target) for _, target in by_content(batches[:3], 4)] == [4, 2]


def test_intervals_of_many_looks_cover_the_mean_as_often_as_they_say() -> None:
    missed = 0
    for seed in range(60):
        draws = np.random.default_rng(seed).choice([-1.0, 0.0, 1.0], 640, p=[0.02, 0.88, 0.1])
        looked = Looked(Stop(half_width=0.03, limit=0.05, confidence=0.9))
        for begin in range(0, 640, 128):
            looked.add(draws[begin : begin + 128], left=640 - begin)
            if looked.reason:
                break
        low, high = looked.interval
        missed += not low <= 0.08 <= high
    assert missed <= 10  # of 60 with a chance below 0.1


def test_answers_as_far_apart_as_can_be_are_compared() -> None:
    net = convolutional(6)
    with torch.no_grad():  # rounding may take a distance above 1
        net[5].weight *= 1e4
    data = labeled(net, 200)
    units = find_units(net, data[0][0][:2])
    (found,) = try_removals(
        net, units, [units.names[1:5]], data, example_inputs=data[0][0][:2], half_width=0.01,
        fit=[noise(64, 3, 8, 8, seed=5)], precision="keep",
    )  # fmt: skip
    assert found.cost.num_examples <= 200
    assert -1 <= found.cost.low <= found.cost.high <= 1
