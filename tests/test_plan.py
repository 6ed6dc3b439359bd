"""Plans: which units go for which target."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srinit.criteria import UnitScore, UnitScores
from srinit.errors import ConfigError, PlanError
from srinit.plan import PlanTimes, PrunePlan, make_plan
from srinit.records import Interval
from srinit.sensitivity.records import Sensitivity, UnitSensitivity
from srinit.units.records import LockedUnit, Unit, UnitMap


def scan(drops: list[float | None], stage_size: int = 100) -> Sensitivity:
    units = tuple(
        Unit(
            name=f"block.{i}", kind="block", in_shape=(4,), out_shape=(4,), params=10 + i,
            flops=100 + i, position=i, stage=f"stage{i // stage_size}",
        )
        for i in range(len(drops))
    )  # fmt: skip
    locked = LockedUnit(
        name="head",
        kind="block",
        reason="shape change",
        detail="it changes the shape",
        params=5,
        stage="stage0",
    )
    rows = tuple(
        UnitSensitivity(
            unit=unit.name,
            reinit_drop=drop,
            interval=None
            if drop is None
            else Interval(value=drop, low=drop - 0.01, high=drop + 0.01, confidence=0.95),
            joint=None,
            num_draws=3,
            num_examples=100,
            draw_spread=0.01,
            balanced_drop=None,
            top_share=None,
            nonfinite=0.0,
            decision="not measured" if drop is None else "undecided",
        )
        for unit, drop in zip(units, drops, strict=True)
    )
    return Sensitivity(
        units=rows,
        unit_map=UnitMap(removable=units, locked=(locked,), params=1000, flops=10_000),
        scheme="keep_norm", scale=1.0, confidence=0.95, half_width=0.02, max_drop=None,
        baseline_score=0.9, num_examples=100, seed=0, stopped_by="data",
    )  # fmt: skip


def test_units_go_in_the_order_of_their_drop() -> None:
    plan = make_plan(scan([0.3, 0.1, 0.2]), params=970)
    assert plan.ranking == ("block.1", "block.2", "block.0")
    assert plan.names == ("block.1", "block.2", "block.0")


def test_max_drop_looks_at_the_upper_bound_unless_told_otherwise() -> None:
    sensitivity = scan([0.015, 0.005, 0.5])
    assert make_plan(sensitivity, max_drop=0.02).names == ("block.1",)
    assert make_plan(sensitivity, max_drop=0.02, rule="point").names == ("block.1", "block.0")


def test_budget_is_met_by_the_shortest_prefix() -> None:
    sensitivity = scan([0.1, 0.2, 0.3, 0.4])
    assert make_plan(sensitivity, flops=0.98).names == ("block.0", "block.1")
    assert make_plan(sensitivity, flops=9_899).names == ("block.0",) + ("block.1",) * 1


def test_prefixes_list_every_plan_along_the_ranking() -> None:
    plan = make_plan(scan([0.1, 0.2, 0.3]), max_drop=0.0)
    assert [p.num_removed for p in plan.prefixes] == [0, 1, 2, 3]
    assert [p.params for p in plan.prefixes] == [1000, 990, 979, 967]
    assert plan.names == ()


def test_a_target_that_cannot_be_met_says_what_can() -> None:
    with pytest.raises(PlanError, match=r"params can go down to 967 \(0.967\), not 500"):
        make_plan(scan([0.1, 0.2, 0.3]), params=0.5)
    with pytest.raises(PlanError, match=r"within max_drop=0\.15"):
        make_plan(scan([0.1, 0.2, 0.3]), params=970, max_drop=0.15)


def test_named_units_go_first_and_protected_ones_never() -> None:
    plan = make_plan(scan([0.1, 0.2, 0.3]), remove=["block.2"], params=980, keep=["block.0"])
    assert plan.names == ("block.2", "block.1")
    assert "block.0" not in plan.ranking


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"remove": ["blok.1"]}, "nearest: 'block.1'"),
        ({"remove": ["head"]}, r"'head' is locked \(shape change\)"),
        ({"remove": ["block.1"], "keep": ["block.1"]}, "both in remove and in keep"),
        ({"keep": ["nothing"]}, "keep names 'nothing'"),
        ({"remove": ["block.1", "block.1"]}, "named twice"),
        ({"latency": 0.5}, "latency at batch 1 was not measured"),
        ({"flops": -1.0}, "flops=-1 cannot be met"),
    ],
)
def test_a_wrong_target_is_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make_plan(scan([0.1, 0.2, 0.3]), **arguments)  # type: ignore[arg-type]


def test_what_was_not_measured_never_looks_redundant() -> None:
    plan = make_plan(scan([None, 0.2, 0.1]), max_drop=1.0)
    assert "block.0" not in plan.ranking


def test_the_last_unit_of_a_stage_stays_unless_told() -> None:
    sensitivity = scan([0.1, 0.2, 0.3, 0.4], stage_size=2)
    assert make_plan(sensitivity).ranking == ("block.0", "block.1", "block.2")
    assert len(make_plan(sensitivity, empty_stages=True).ranking) == 4


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0, 1))
def test_a_plan_survives_its_file(drops: list[float], max_drop: float) -> None:
    plan = make_plan(scan(list(drops)), max_drop=max_drop)
    assert PrunePlan.from_json(plan.to_json()) == plan


def test_a_damaged_plan_file_names_every_problem() -> None:
    text = make_plan(scan([0.1])).to_json().replace('"ranking"', '"rankign"')
    with pytest.raises(ConfigError, match="rankign") as caught:
        PrunePlan.from_json(text)
    assert "ranking: Field required" in str(caught.value)


def test_what_a_clock_said_is_kept_apart_and_found_again() -> None:
    plan = make_plan(scan([0.3, 0.1, 0.2]), max_drop=0.25)
    times = [{"1": 2.0 - index / 10} for index in range(len(plan.prefixes))]
    timed = dataclasses.replace(
        plan,
        prefixes=tuple(
            dataclasses.replace(p, latency_ms=t) for p, t in zip(plan.prefixes, times, strict=True)
        ),
    )
    bare, apart = timed.untimed()
    assert bare.to_json() == plan.to_json()
    assert bare.timed(PlanTimes.from_json(apart.to_json())) == timed
    other = dataclasses.replace(bare, ranking=bare.ranking[::-1])
    assert other.timed(apart) == other  # latencies of another ranking are not taken


def _scored(is_drop: bool = False) -> UnitScores:
    units = tuple(UnitScore(unit=f"block.{i}", score=(0.3, 0.1, 0.2)[i]) for i in range(3))
    return UnitScores(
        criterion="removal_drop" if is_drop else "cka",
        units=units, is_drop=is_drop, num_examples=8, seed=0,
    )  # fmt: skip


def test_a_plan_needs_units_and_scores_and_no_scan() -> None:
    units = scan([0.1, 0.2, 0.3]).unit_map
    plan = make_plan(units, scores=_scored(), units=2)
    assert (plan.names, plan.criterion) == (("block.1", "block.2"), "cka")
    assert [r.evidence.score for r in plan.remove] == [0.1, 0.2]
    assert all(r.evidence.reinit_drop is None for r in plan.remove)
    assert make_plan(units, scores=_scored(is_drop=True), max_drop=0.2).names == plan.names


def test_a_plan_by_names_alone_says_that_nothing_ranked() -> None:
    plan = make_plan(scan([None] * 3).unit_map, remove=["block.2", "block.0"])
    assert (plan.names, plan.criterion) == (("block.2", "block.0"), "names")
    assert PrunePlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("scores", "asked", "message"),
    [
        (None, {"units": 1}, "units chooses by what was measured"),
        (None, {"flops": 0.8}, "flops chooses by what was measured"),
        (_scored(), {"max_drop": 0.1}, "max_drop bounds losses of the score"),
    ],
)
def test_a_target_that_nothing_was_measured_for_is_refused(
    scores: UnitScores | None, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(PlanError, match=message):
        make_plan(scan([0.1, 0.2, 0.3]).unit_map, scores=scores, **asked)
