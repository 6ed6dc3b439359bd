"""Criteria: planted truth, own criteria, an untouched model, the same scores for the same seed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from planted import Planted, batches_of, planted_data
from srinit import records
from srinit.config.steps import CRITERIA as NAMES_IN_CONFIG
from srinit.criteria import CRITERIA, Options, UnitScores, score_units, scores_of
from srinit.criteria.without import Without
from srinit.errors import ConfigError, DataError, PlanError
from srinit.evaluate import evaluate
from srinit.evaluate.cka import biased_cka
from srinit.plan import make_plan
from srinit.sensitivity import measure_sensitivity
from srinit.units import UnitMap, bypassed, find_units
from zoo import cifar_resnet, noise

LOOKS_AT_EFFECT = ("removal_drop", "output_cka", "block_influence", "cka")
ALL = ("reinit_drop", *CRITERIA)


def planted() -> tuple[nn.Module, UnitMap, list[tuple[Tensor, Tensor]]]:
    model = Planted().eval()
    with torch.no_grad():
        model.blocks[0].gain, model.blocks[2].gain = 3.0, 2.0
        for index in (0, 2):
            model.blocks[index].linear.weight.copy_(noise(8, 8).roll(index, 0))
    x, _ = planted_data(600)
    with torch.no_grad():
        target = model(x).argmax(1)  # every block that does something matters
    return model, find_units(model, x[:2]), batches_of(x, target)


@pytest.mark.parametrize("criterion", LOOKS_AT_EFFECT)
def test_a_block_that_does_nothing_goes_first(criterion: str) -> None:
    model, units, data = planted()
    found = score_units(model, units, data, criterion=criterion)
    assert found.order[0] == "blocks.1"
    assert found["blocks.1"].score == pytest.approx(0.0, abs=1e-6)
    others = [found[name].score for name in ("blocks.0", "blocks.2")]
    assert all(score is not None and score > 0.01 for score in others)


def test_a_block_without_gradient_goes_first_by_taylor_and_without_weights_by_l1() -> None:
    model, units, data = planted()
    assert score_units(model, units, data, criterion="taylor")["blocks.1"].score == 0.0
    with torch.no_grad():
        model.blocks[0].linear.weight.zero_()
    assert score_units(model, units, data, criterion="l1").order[0] == "blocks.0"


def test_taylor_is_the_sum_of_gradient_times_weight() -> None:
    model, units, data = planted()
    found = score_units(model, units, data[:1], criterion="taylor", batch_size=100)
    twin = copy.deepcopy(model)
    loss = nn.functional.cross_entropy(twin(data[0][0]), data[0][1])
    loss.backward()
    wanted = sum((p.grad * p).abs().sum().item() for p in twin.blocks[0].parameters())
    assert found["blocks.0"].score == pytest.approx(wanted, rel=1e-4)


def test_removal_drop_is_what_evaluating_without_the_unit_says() -> None:
    model, units, data = planted()
    found = score_units(model, units, data, criterion="removal_drop", precision="keep")
    baseline = evaluate(model, data).score
    assert found.baseline_score == pytest.approx(baseline)
    assert found.is_drop
    for unit in units:
        with bypassed(model, unit):
            wanted = baseline - evaluate(model, data).score
        score = found[unit.name]
        assert score.score == pytest.approx(wanted)
        assert score.low is not None
        assert score.high is not None
        assert score.low <= wanted <= score.high


def test_removal_drop_covers_shortcuts_and_replays_from_the_middle() -> None:
    model = cifar_resnet(20)
    x = noise(24, 3, 32, 32)
    units = find_units(model, x[:2])
    assert units["layer2.0"].how == "branch"
    options = Options(device=torch.device("cpu"), precision="keep")
    bench = Without(model, units, (x, torch.zeros(24, dtype=torch.long)), options)
    assert bench._fast == frozenset(units.names)
    outputs = dict(bench.outputs(x))
    with torch.no_grad():
        for unit in units:
            with bypassed(model, unit):
                torch.testing.assert_close(outputs[unit.name], model(x))


def test_scores_between_0_and_1_get_students_interval() -> None:
    model, units, data = planted()

    def soft(output: Any, target: Any) -> Tensor:
        return output.softmax(1).gather(1, target[:, None]).squeeze(1)

    found = score_units(model, units, data, criterion="removal_drop", scorer=soft)["blocks.0"]
    assert found.low is not None
    assert found.high is not None
    assert found.low < (found.score or 0) < found.high


def test_reinit_drop_is_the_scan_and_another_number_than_removal_drop() -> None:
    model, units, data = planted()
    scan = measure_sensitivity(
        model, units, data, scheme="keep_norm", seed=3, batch_size=64, device="cpu"
    )
    found = score_units(model, units, data, criterion="reinit_drop", scheme="keep_norm", seed=3)
    assert found == scores_of(scan)
    assert found.criterion == "reinit_drop (keep_norm)"
    removed = score_units(model, units, data, criterion="removal_drop", seed=3)
    assert removed["blocks.0"].score != found["blocks.0"].score


@pytest.mark.parametrize("criterion", ALL)
def test_the_model_is_untouched_and_the_same_seed_gives_the_same_scores(criterion: str) -> None:
    model, units, data = planted()
    model.train()
    model.head.requires_grad_(False)
    hook = model.stem.register_forward_hook(lambda *_: None)
    before, flags = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    frozen = [p.requires_grad for p in model.parameters()]
    random = torch.get_rng_state()
    first = score_units(model, units, data, criterion=criterion, seed=1, max_examples=200)
    again = score_units(model, units, data, criterion=criterion, seed=1, max_examples=200)
    assert first == again
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert flags == [m.training for m in model.modules()]
    assert frozen == [p.requires_grad for p in model.parameters()]
    assert all(p.grad is None for p in model.parameters())
    assert [len(m._forward_hooks) for m in model.modules()].count(1) == 1
    assert torch.equal(random, torch.get_rng_state())
    hook.remove()


def test_examples_are_chosen_at_random_where_data_is_sorted_by_class() -> None:
    model, units, data = planted()
    x = torch.cat([batch for batch, _ in data])
    target = torch.arange(len(x)) // 150  # four classes, one after the other
    seen: list[int] = []

    def look(model: nn.Module, units: UnitMap, data: Any, options: Options) -> dict[str, float]:
        seen.extend(int(t) for _, targets in data for t in targets)
        return dict.fromkeys(units.names, 0.0)

    found = score_units(model, units, batches_of(x, target), criterion=look, max_examples=80)
    assert found.num_examples == len(seen) == 80
    assert set(seen) == {0, 1, 2, 3}


def test_an_own_criterion_ranks_and_works_on_a_copy() -> None:
    model, units, data = planted()

    def by_hand(model: nn.Module, units: UnitMap, data: Any, options: Options) -> dict[str, float]:
        with torch.no_grad():
            model.stem.weight.zero_()
        return {"blocks.2": 1.0, "blocks.0": 2.0, "blocks.1": float("nan")}

    found = score_units(model, units, data, criterion=by_hand)
    assert found.criterion == "by_hand"
    assert found.order == ("blocks.2", "blocks.0")
    assert "NaN" in found["blocks.1"].reason
    assert bool(model.stem.weight.any())


@pytest.mark.parametrize(
    ("returned", "message"),
    [({"nowhere": 1.0}, "scored 'nowhere'"), ({"blocks.0": "low"}, "gave str for 'blocks.0'")],
)
def test_an_own_criterion_that_returns_nonsense_is_named(returned: Any, message: str) -> None:
    model, units, data = planted()
    with pytest.raises(ConfigError, match=message):
        score_units(model, units, data, criterion=lambda *_: returned)


def test_unknown_names_and_missing_data_are_errors() -> None:
    model, units, data = planted()
    with pytest.raises(ConfigError, match="nearest: 'removal_drop'"):
        score_units(model, units, data, criterion="removal")
    with pytest.raises(DataError, match="no example"):
        score_units(model, units, [], criterion="cka")


def test_the_config_knows_the_same_criteria() -> None:
    assert set(NAMES_IN_CONFIG) == {"reinit_drop", *CRITERIA}


def test_linear_cka_does_not_see_scale_and_rotation_and_tells_noise() -> None:
    x = noise(50, 4)
    turn, _ = torch.linalg.qr(noise(4, 4))
    assert biased_cka(x, 2.5 * x @ turn + 1) == pytest.approx(1.0)
    assert biased_cka(x, noise(100, 4)[50:]) < 0.4
    assert biased_cka(x, torch.ones(50, 4)) == 0.0


def test_the_plan_follows_the_criterion_and_shows_both_drops() -> None:
    model, units, data = planted()
    scan = measure_sensitivity(model, units, data, scheme="keep_norm", device="cpu")
    scores = score_units(model, units, data, criterion="removal_drop")
    plan = make_plan(scan, scores=scores, max_drop=0.02)
    assert plan.names == ("blocks.1",)
    assert plan.criterion == "removal_drop"
    evidence = plan.remove[0].evidence
    assert evidence.score == scores["blocks.1"].score
    assert evidence.reinit_drop == scan["blocks.1"].reinit_drop
    assert evidence.score_interval is not None
    assert evidence.score_interval.high <= 0.02
    again = records.from_json(UnitScores, records.to_json(scores, schema="s"), schema="s")
    assert make_plan(scan, scores=again, max_drop=0.02) == plan


def test_a_similarity_ranks_while_max_drop_bounds_the_reinit_drop() -> None:
    model, units, data = planted()
    scan = measure_sensitivity(model, units, data, scheme="keep_norm", device="cpu")
    scores = score_units(model, units, data, criterion="position")
    assert make_plan(scan, scores=scores, params=0.9, empty_stages=True).names == ("blocks.2",)
    plan = make_plan(scan, scores=scores, max_drop=0.02, empty_stages=True)
    assert plan.names == ("blocks.1",)
    assert plan.ranking == ("blocks.1", "blocks.2", "blocks.0")
    with pytest.raises(PlanError, match="within max_drop"):
        make_plan(scan, scores=scores, max_drop=0.02, params=0.1)


def test_block_influence_stops_reading_where_units_are_told_apart() -> None:
    model = cifar_resnet(20)
    x, target = noise(400, 3, 16, 16), torch.zeros(400).long()
    units = find_units(model, x[:2])
    found, whole = (
        score_units(model, units, [(x, target)], criterion="block_influence", batch_size=size)
        for size in (32, len(x))
    )
    assert 128 <= found.num_examples < whole.num_examples == len(x)
    scores = {each.unit: each.score or 0.0 for each in whole.units}
    spread = max(scores.values()) - min(scores.values())
    for each in found.units:
        assert each.score == pytest.approx(scores[each.unit], abs=0.02 * spread)
