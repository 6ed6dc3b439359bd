"""The caller's network is the same afterwards, also one whose forward counts, collects or fills."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import srinit
from srinit.cost import count_cost
from srinit.criteria import score_units
from srinit.errors import ModelError
from srinit.evaluate import evaluate, labeled_by
from srinit.finetune import Recipe, recalibrate
from srinit.inference_cost import measure_inference_cost
from srinit.latency import measure_latency
from srinit.rng import isolated_rng
from srinit.state import preserved
from srinit.trial import try_removals
from test_copies import BATCHES, Net, X, net


class Restless(Net):
    """Changes in a forward all that a network can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(8), persistent=False)
        self.register_buffer("cache", None, persistent=False)
        self.count, self.seen, self.last = 0, [], None
        self.nested = {"runs": [0], "queue": deque(maxlen=3)}
        self.notes = SimpleNamespace(shape=None)
        self.scale = torch.ones(1)
        self.chance = torch.Generator().manual_seed(0)
        self.others = (random.Random(0), np.random.default_rng(0))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.mean = x.mean(0)
        self.cache = x
        self.count += 1
        self.seen.append(x)
        self.last, self.late = x, True
        self.nested["runs"][0] += 1
        self.nested["queue"].append(x)
        self.notes.shape = x.shape
        self.scale.mul_(2)
        torch.rand(1, generator=self.chance)
        self.others[0].random(), self.others[1].random()
        return super().forward(x)


def state(model: Restless) -> Any:
    return (
        int(model.calls), model.mean.tolist(), model.cache, model.count, len(model.seen),
        model.last, hasattr(model, "late"), model.nested["runs"][0], len(model.nested["queue"]),
        model.notes.shape, float(model.scale), model.chance.get_state().tolist(),
        model.others[0].getstate(), str(model.others[1].bit_generator.state),
    )  # fmt: skip


def plan_of(model: nn.Module) -> tuple[srinit.UnitMap, srinit.PrunePlan]:
    units = srinit.find_units(model, X)
    scan = srinit.measure_sensitivity(model, units, BATCHES, scheme="default", half_width=0.5)
    return units, srinit.make_plan(scan, remove=["blocks.1"])


def everything(model: nn.Module, folder: Path) -> None:
    units, plan = plan_of(model)
    pruned = srinit.apply_plan(model, plan)
    srinit.save_pruned(folder, pruned, plan, base="py:model.py:build")
    srinit.load_pruned(folder, base=model)
    srinit.fine_tune(
        pruned, BATCHES, BATCHES, teacher=model, recipe=Recipe(epochs=1, distill_weight=0.5)
    )
    srinit.compare(model, pruned, BATCHES)
    for criterion in ("removal_drop", "taylor", "block_influence"):
        score_units(model, units, BATCHES, criterion=criterion)
    try_removals(model, units, [("blocks.1",)], BATCHES, example_inputs=X)
    evaluate(model, BATCHES)
    list(labeled_by(model, BATCHES))
    count_cost(model, X)
    measure_latency(model, X, repeats=2)
    measure_inference_cost(model, X, seconds=0.001)


def test_nothing_that_a_forward_changes_stays_changed(tmp_path: Path) -> None:
    model = net(Restless)
    before = state(model)
    everything(model, tmp_path)
    assert state(model) == before


def test_a_forward_that_raises_leaves_nothing_either() -> None:
    model = net(Restless)
    before = state(model)
    with pytest.raises(ModelError, match="does not run"):
        srinit.find_units(model, X[:, :3])
    assert state(model) == before


def test_what_only_hooks_and_closures_hold_is_put_back() -> None:
    model, log, count = net(), [], 0

    def hook(*_: Any) -> None:
        nonlocal count
        count += 1
        log.append(count)

    model.head.register_forward_hook(hook)
    plan = plan_of(model)[1]
    srinit.apply_plan(model, plan)
    assert (log, count) == ([], 0)


def test_a_hook_hears_the_forwards_that_were_asked_for() -> None:
    model, heard = net(), []
    model.head.register_forward_hook(lambda _, __, output: heard.append(len(output)))
    evaluate(model, BATCHES)
    assert heard == [6]


def test_a_parameter_that_a_forward_gives_other_memory_is_put_back() -> None:
    class Clamped(nn.Linear):
        """Bounds its weights as EEGNet's layers do."""

        def forward(self, x: Tensor) -> Tensor:
            self.weight.data = torch.renorm(self.weight.data, 2, 0, 0.1)
            return super().forward(x)

    with isolated_rng(0):
        layer = Clamped(8, 8)
    before = layer.weight.detach().clone()
    with preserved(layer):
        layer(X)
    assert torch.equal(layer.weight, before)


class Lazy(Net):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.LazyLinear(8), nn.LazyLinear(3)


LAZY = {
    "find_units": lambda m, p: srinit.find_units(m, X),
    "measure_sensitivity": lambda m, p: srinit.measure_sensitivity(m, p[0], BATCHES),
    "score_units": lambda m, p: score_units(m, p[0], BATCHES, criterion="position"),
    "apply_plan": lambda m, p: srinit.apply_plan(m, p[1]),
    "compare": lambda m, p: srinit.compare(m, m, BATCHES),
    "fine_tune": lambda m, p: srinit.fine_tune(m, BATCHES, None),
    "recalibrate": lambda m, p: recalibrate(m, BATCHES),
    "count_cost": lambda m, p: count_cost(m, X),
}


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("name", LAZY)
def test_lazy_parts_are_refused_and_stay_lazy(name: str) -> None:
    lazy = Lazy()
    with pytest.raises(ModelError, match=r"not initialized: stem \(LazyLinear\), head"):
        LAZY[name](lazy, plan_of(net()))
    assert type(lazy.stem) is nn.LazyLinear
    assert nn.parameter.is_lazy(lazy.head.weight)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_saved_network_loads_into_a_lazy_base_which_stays_lazy(tmp_path: Path) -> None:
    with isolated_rng(0):
        model = Lazy().eval()
        model(X)
    _, plan = plan_of(model)
    pruned = srinit.apply_plan(model, plan)
    srinit.save_pruned(tmp_path, pruned, plan, base="py:model.py:build")
    base = Lazy()
    loaded = srinit.load_pruned(tmp_path, base=base)
    assert torch.equal(loaded(X), pruned(X))
    assert type(loaded.get_submodule("head")) is nn.Linear
    assert type(base.head) is nn.LazyLinear
