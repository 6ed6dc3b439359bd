"""Trial removals: costs that are planted, units that are left out, evidence in the plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from planted import Planted, batches_of, planted_data
from srinit.comparison import Drop
from srinit.compensation.answers import answers, divergence
from srinit.errors import DataError, PlanError
from srinit.observer import Silent
from srinit.pipeline import start
from srinit.plan import PrunePlan
from srinit.runs.artifacts import PLAN
from srinit.steps import trials
from srinit.surgery import remove_units
from srinit.trial import Trial, removal_distances, try_removals
from srinit.units import find_units

QUICK = (
    "scan.scheme=permuted", "scan.half_width=0.3", "plan.flops=0.7", "plan.trial_examples=200",
    "compare.latency_batches=[1]", "baseline.expected_top1=null",
)  # fmt: skip


def test_what_is_worthless_costs_nothing_and_what_is_needed_costs_all() -> None:
    model = Planted()
    x, target = planted_data(600)
    with torch.no_grad():
        model.blocks[2].gain = 1.0
        model.blocks[2].linear.weight.copy_(-20 * torch.eye(8))
        model.blocks[2].linear.weight[4:] = 0
        model.blocks[2].linear.bias.copy_(torch.tensor([0.0, 30, 60, 90, 0, 0, 0, 0]))
        target = model(x).argmax(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    units = find_units(model, x[:2])
    assert {"blocks.1", "blocks.2"} <= set(units.names)
    worthless, needed, both = try_removals(
        model, units, [("blocks.1",), ("blocks.2",), ("blocks.1", "blocks.2")],
        batches_of(x, target), example_inputs=x[:2],
    )  # fmt: skip
    assert worthless.cost.drop == 0
    assert worthless.cost.low < 0 < worthless.cost.high < 0.02
    assert needed.cost.low > 0.1
    assert both.cost.drop == needed.cost.drop
    after, = try_removals(
        model, units, [("blocks.1",)], batches_of(x, target), example_inputs=x[:2],
        gone=("blocks.2",),
    )  # fmt: skip
    assert after.cost.drop == 0  # against the network that lacks blocks.2 already
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_a_short_recovery_is_measured_and_the_reference_is_not_trained() -> None:
    model = Planted()
    x, target = planted_data(400)
    with torch.no_grad():
        target = model(x).argmax(1)
    units = find_units(model, x[:2])
    trained: list[torch.nn.Module] = []

    def spoil(network: torch.nn.Module) -> None:
        trained.append(network)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()

    left, spoiled = (
        try_removals(
            model, units, [("blocks.1",)], batches_of(x, target), example_inputs=x[:2],
            recover=recover,
        )[0].cost
        for recover in (None, spoil)
    )  # fmt: skip
    assert len(trained) == 1  # only the network without the candidate
    assert spoiled.baseline == left.baseline == 1
    assert spoiled.drop > 0.3


def plan(digits: Path, out: Path, *more: str) -> tuple[PrunePlan, list[str]]:
    said: list[str] = []

    class Listener(Silent):
        def say(self, line: str) -> None:
            said.append(line)

    overrides = [*QUICK, *more, f"out={out}"]
    with start.create_run(digits / "srinit.yaml", overrides, Listener()) as runner:
        return runner.get(PLAN), said


@pytest.mark.slow
def test_a_plan_says_what_every_removal_rests_on(digits: Path, tmp_path: Path) -> None:
    found, _ = plan(digits, tmp_path)
    assert len(found.remove) >= 2
    for removal in found.remove:
        evidence = removal.evidence
        assert evidence.reinit_drop is not None
        assert evidence.alone is not None
        assert evidence.joint is not None
        cost = evidence.alone.cost
        assert cost.low <= cost.known <= cost.high
    first, last = found.remove[0].evidence, found.remove[-1].evidence
    assert first.joint == first.alone
    assert first.joint is not None
    assert last.joint is not None
    assert last.joint.cost.known >= first.joint.cost.known - 0.02


@pytest.mark.slow
def test_units_may_be_ranked_by_what_is_left_of_the_answers(digits: Path, tmp_path: Path) -> None:
    found, _ = plan(digits, tmp_path, "plan.criterion=compensated_distance")
    assert found.criterion == "compensated_distance"
    (path,) = tmp_path.glob("*/scan/criterion.json")
    scores = {unit["unit"]: unit["score"] for unit in json.loads(path.read_text())["units"]}
    assert set(found.ranking) <= set(scores)
    assert list(found.ranking) == sorted(found.ranking, key=lambda name: scores[name])
    assert all(0 <= score <= 1 for score in scores.values())
    with pytest.raises(DataError, match=r"ranks by trials, and plan\.trial_examples is 0"):
        plan(digits, tmp_path / "b", "plan.criterion=compensated_distance", "plan.trial_examples=0")


def test_distances_are_those_of_the_answers_without_each_unit() -> None:
    model = Planted()
    x, target = planted_data(200)
    units = find_units(model, x[:2])
    data = batches_of(x, target)
    found = removal_distances(model, units, data, example_inputs=x[:2], precision="keep")
    theirs = answers(model, [x])
    for name, distance in found.items():
        cut = remove_units(model, [units[name]], example_inputs=x[:2])
        wanted = divergence(theirs, answers(cut, [x]), [x], "probabilities").mean()
        assert distance == pytest.approx(wanted, abs=1e-5)
    assert found["blocks.1"] == 0  # worthless


@pytest.mark.slow
def test_trials_take_the_steps_that_the_config_asks_for(digits: Path, tmp_path: Path) -> None:
    costs = {}
    for steps in (0, 30):
        found, _ = plan(digits, tmp_path / str(steps), f"plan.trial_steps={steps}")
        joint = found.remove[-1].evidence.joint
        assert joint is not None
        assert joint.steps == steps
        costs[steps] = joint.cost.known
    assert costs[30] < costs[0]  # a few steps bring something back


@pytest.mark.slow
def test_a_unit_that_costs_too_much_is_left_out_and_named(digits: Path, tmp_path: Path) -> None:
    as_cut = ("plan.criterion=random", "plan.flops=0.75", "compensate.method=none")
    free, _ = plan(digits, tmp_path / "a", *as_cut)
    surely = {r.unit.name: r.evidence.alone.cost.low for r in free.remove if r.evidence.alone}
    worst = max(surely, key=lambda name: surely[name])
    limit = surely[worst] - 0.001
    assert limit > 0, "the trial should find a unit that surely costs something"
    bound, said = plan(
        digits, tmp_path / "b", *as_cut, f"plan.trial_max_drop={limit}",
    )  # fmt: skip
    assert worst not in bound.names
    assert worst in bound.note
    assert any("left out after a trial" in line for line in said)
    assert bound.prefixes[len(bound.remove)].flops <= 0.75 * bound.prefixes[0].flops


@pytest.mark.slow
def test_a_target_that_trials_put_out_of_reach_says_so(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = Drop(
        value=0.5, low=0.4, high=0.6, confidence=0.95, baseline=0.9, pruned=0.4, num_examples=100
    )

    def dear(*args: Any, **kwargs: Any) -> tuple[Trial, ...]:
        return tuple(Trial(removed=tuple(names), cost=cost) for names in args[2])

    monkeypatch.setattr(trials, "try_removals", dear)
    with pytest.raises(PlanError, match=r"trial removal costs more than plan\.trial_max_drop"):
        plan(digits, tmp_path, "plan.trial_max_drop=0.1")
