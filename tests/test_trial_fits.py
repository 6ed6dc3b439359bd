"""Compensation of trials: fits that share one copy and one unpruned network are those of cuts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srinit.compensation import realign
from srinit.compensation.variants import LEAST_ROWS, WORTH, Fitter
from srinit.realignment.teacher import Teacher
from srinit.surgery import remove_with_origins
from test_compensation import NETWORKS, made


def really_fitted(model: nn.Module, gone: list[Any], batches: list[Any]) -> dict[str, Tensor]:
    pruned, origins = remove_with_origins(model, gone, example_inputs=batches[0][:2])
    update = realign(model, pruned, origins, batches, least_rows=LEAST_ROWS, worth=WORTH)
    state = pruned.state_dict()
    return {origins[key]: state[key] for key in update.changes}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_fits_without_surgery_are_those_of_networks_that_were_really_cut(name: str) -> None:
    model, batches, units = made(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fitter = Fitter(model, batches[:2], method="auto", example_inputs=batches[0][:2])
    names = units.names
    for chosen in (names[1:2], names[:1], names[1:3], names[1:2]):
        gone = [units[unit] for unit in chosen]
        found = fitter.fitted(gone).variants["realigned"]
        wanted = really_fitted(model, gone, batches[:2])
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_recalibration_of_trials_is_that_of_each_cut_alone() -> None:
    model, batches, units = made("basic blocks")
    shared = Fitter(model, batches, method="recalibrate", example_inputs=batches[0][:2])
    for name in units.names[:2]:
        alone = Fitter(model, batches, method="recalibrate", example_inputs=batches[0][:2])
        one, other = (f.fitted([units[name]]).variants["recalibrated"] for f in (shared, alone))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_the_unpruned_network_runs_once_for_walks_that_share_it_where_there_is_room() -> None:
    model, batches, units = made("basic blocks")
    gone = [units[units.names[1]]]
    cuts = [remove_with_origins(model, gone, example_inputs=batches[0][:2]) for _ in range(4)]
    found, runs = [], []
    for room in (1 << 30, 0):
        teacher, calls = Teacher(model, batches, room=room), list[int]()
        handle = model.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        for pruned, origins in cuts[:2] if room else cuts[2:]:
            found.append(realign(model, pruned, origins, batches, teacher=teacher).changes)
        handle.remove()
        runs.append(len(calls))
    assert runs == [len(batches), 2 * len(batches)]
    for other in found[1:]:
        assert found[0].keys() == other.keys()
        assert all(torch.equal(found[0][key], other[key]) for key in found[0])


def test_maps_that_are_near_their_target_are_left_as_they_are_and_named() -> None:
    model, batches, units = made("basic blocks")
    gone = [units[units.names[1]]]
    updates = []
    for worth in (0.0, 0.05, 10.0):
        pruned, origins = remove_with_origins(model, gone, example_inputs=batches[0][:2])
        updates.append(realign(model, pruned, origins, batches[:1], worth=worth))
    every, some, none = updates
    assert not none.solved
    assert not none.changes
    assert {each.name for each in some.solved} <= {each.name for each in every.solved}
    assert all(each.lacking_before >= 0.05 for each in some.solved)
    near = [each.name for each in none.left if "near its target already" in each.reason]
    assert near == [each.name for each in every.solved]
