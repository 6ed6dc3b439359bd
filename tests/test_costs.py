"""What errors cost: a matrix of costs, several defect classes, and the gates on them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from srinit.comparison import (
    Comparison,
    CorruptionPoint,
    CorruptionRobustness,
    ErrorCost,
    compare_outcomes,
)
from srinit.comparison.defects import find_defects
from srinit.comparison.records import Drop
from srinit.errors import ConfigError
from srinit.evaluate import Outcomes
from srinit.gates import check_feasible, check_gates, examples_needed
from srinit.records import Interval
from srinit.stats import paired

NAMES = ("ok", "scratch", "dent")
DEFECTS = ("scratch", "dent")
COSTS = {
    "ok": {"scratch": 30.0, "dent": 30.0},
    "scratch": {"ok": 5000.0, "dent": 20.0},
    "dent": {"ok": 3000.0, "scratch": 20.0},
}
TARGETS = [0] * 60 + [1] * 25 + [2] * 15


def outcomes(targets: list[int], predictions: list[int]) -> Outcomes:
    wanted, found = np.array(targets), np.array(predictions)
    return Outcomes(
        scores=(wanted == found).astype(float),
        finite=found >= 0,
        targets=wanted,
        predictions=found,
        confidence=np.full(len(found), 0.9),
    )


def changed(**places: int) -> list[int]:
    """Return the right answers but for those at some places: p3=1 is class 1 at place 3."""
    found = list(TARGETS)
    for place, value in places.items():
        found[int(place[1:])] = value
    return found


BEFORE = changed(p0=1)  # one good part rejected
AFTER = changed(p0=0, p1=2, p2=2, p60=0, p61=2, p85=0)


def compared(share: float | None = None, after: list[int] = AFTER) -> Comparison:
    return compare_outcomes(
        outcomes(TARGETS, BEFORE),
        outcomes(TARGETS, after),
        class_names=NAMES,
        defect_class=DEFECTS,
        costs=COSTS,
        defect_share=share,
    )


def cost_of(comparison: Comparison) -> ErrorCost:
    assert comparison.error_cost is not None
    return comparison.error_cost


def test_one_defect_for_another_is_no_missed_defect() -> None:
    risk = compared().defects
    assert risk is not None
    assert risk.defect_class == "scratch, dent"
    assert (risk.missed_pruned.hits, risk.missed_pruned.total) == (2, 40)
    assert (risk.rejected_baseline.hits, risk.rejected_pruned.hits) == (1, 2)
    assert [(row.name, row.pruned.hits, row.pruned.total) for row in risk.classes] == [
        ("scratch", 1, 25),
        ("dent", 1, 15),
    ]
    assert "2 misses in 40 defects show only" in risk.note


def test_no_misses_say_how_little_that_shows() -> None:
    same = outcomes([0] * 10 + [1] * 300, [0] * 10 + [1] * 300)
    risk = compare_outcomes(same, same, class_names=("ok", "ng"), defect_class="ng").defects
    assert risk is not None
    assert risk.note.startswith("0 misses in 300 defects show only that the miss rate is below")
    assert 0.01 < risk.missed_pruned.high < 0.0125


def test_cost_of_a_piece_is_the_mean_over_the_data() -> None:
    found = cost_of(compared())
    assert found.increase.baseline == pytest.approx(30 / 100)
    assert found.increase.pruned == pytest.approx((2 * 30 + 5000 + 20 + 3000) / 100)
    assert found.missed == pytest.approx(80)
    assert found.rejected == pytest.approx(0.3)
    assert found.mixed == pytest.approx(0.2)
    assert found.increase.rise == pytest.approx(found.missed + found.rejected + found.mixed)
    assert found.increase.low < 80.5 < found.increase.high
    assert found.defect_share == pytest.approx(0.4)
    assert not found.share_given


def test_a_given_defect_share_weighs_the_classes() -> None:
    found = cost_of(compared(0.01))
    missed = 0.01 * (5000 + 3000) / 40
    assert found.missed == pytest.approx(missed)
    assert found.rejected == pytest.approx(0.99 * 30 / 60)
    assert found.cost_of_miss == pytest.approx((25 * 5000 + 15 * 3000) / 40)
    assert found.cost_of_reject == 30


def test_the_interval_of_two_prices_joins_those_of_both_errors() -> None:
    """With one price a kind of error the cost is a sum of two independent differences."""
    prices = {"ok": {"ng": 1.0}, "ng": {"ok": 9.0}}
    targets = [0] * 80 + [1] * 40
    after = [1] * 3 + [0] * 77 + [0] * 2 + [1] * 38
    found = compare_outcomes(
        outcomes(targets, targets),
        outcomes(targets, after),
        class_names=("ok", "ng"),
        defect_class="ng",
        costs=prices,
        defect_share=0.1,
    )
    risk, rise = found.defects, cost_of(found).increase
    assert risk is not None
    ends = [(0.1 * 9, risk.missed_increase), (0.9 * 1, risk.rejected_increase)]
    value = sum(weight * (part.value or 0.0) for weight, part in ends)
    up = sum((weight * (part.high - (part.value or 0.0))) ** 2 for weight, part in ends) ** 0.5
    assert rise.rise == pytest.approx(value)
    assert rise.high == pytest.approx(value + up)


def test_at_the_break_even_miss_rate_the_errors_cost_the_same() -> None:
    """The pruned network rejects fewer good parts: some more misses are paid for by that."""
    prices = {"ok": {"ng": 10.0}, "ng": {"ok": 100.0}}
    targets = [0] * 100 + [1] * 100
    before = outcomes(targets, [1] * 20 + [0] * 80 + [1] * 100)

    def cost(missed: int) -> ErrorCost:
        after = [0] * 100 + [0] * missed + [1] * (100 - missed)
        found = compare_outcomes(
            before, outcomes(targets, after), class_names=("ok", "ng"), costs=prices
        )
        return cost_of(found)

    found = cost(1)
    assert found.break_even_miss_rate == pytest.approx(0.02)  # 20 rejects of 10 are 2 misses
    assert cost(2).increase.rise == pytest.approx(0)
    assert found.break_even_ratio == pytest.approx(20)  # 1 miss against 20 rejects
    assert cost(0).break_even_ratio is None  # better in both: no ratio makes them equal


def test_without_a_defect_class_the_costs_tell_the_good_one() -> None:
    assert find_defects(NAMES, costs=COSTS) == DEFECTS
    assert find_defects(NAMES, "dent") == ("dent",)
    with pytest.raises(ConfigError, match=r"ok and ng.*data\.defect_class"):
        find_defects(("ok", "ng"), costs={"ok": {"ng": 1}, "ng": {"ok": 1}})
    with pytest.raises(ConfigError, match="every class is a defect class"):
        find_defects(("a", "b"), ["a", "b"])
    with pytest.raises(ConfigError, match=r"no class 'scrach'.*did you mean 'scratch'"):
        find_defects(NAMES, costs={"scrach": {"ok": 1}})
    with pytest.raises(ConfigError, match="recognized as ok is no error"):
        find_defects(NAMES, costs={"ok": {"ok": 1}})


def test_no_answer_costs_as_much_as_the_worst_error() -> None:
    found = compared(after=changed(p60=-1))
    assert found.defects is not None
    assert found.defects.missed_pruned.hits == 1
    assert cost_of(found).missed == pytest.approx(5000 / 100)


def test_a_kind_of_part_that_the_data_lack_leaves_the_cost_open() -> None:
    same = outcomes([0] * 50, [0] * 50)
    found = compare_outcomes(
        same, same, class_names=NAMES, defect_class=DEFECTS, costs=COSTS, defect_share=0.01
    )
    rise = cost_of(found).increase
    assert rise.rise is None
    assert rise.high > 0.01 * 2500
    assert not check_gates(found, {"max_cost_increase": 1e6}).passed


def test_the_interval_of_the_cost_covers_the_truth() -> None:
    """200 samples of a known truth; rare and dear errors, where the normal interval fails."""
    random = np.random.default_rng(0)
    joint = np.array([0.01, 0.002])  # lost, gained
    truth = 0.008 * (500 * 1.0 + 100 * 100.0) / 600
    hits = normal = 0
    for _ in range(200):
        pairs = [random.multinomial(count, [*joint, 1 - joint.sum()])[:2] for count in (500, 100)]
        targets, before, after = [], [], []
        for index, (count, (lost, gained)) in enumerate(zip((500, 100), pairs, strict=True)):
            other = 1 - index
            targets += [index] * count
            before += [index] * lost + [other] * gained + [index] * (count - lost - gained)
            after += [other] * lost + [index] * gained + [index] * (count - lost - gained)
        found = compare_outcomes(
            outcomes(targets, before),
            outcomes(targets, after),
            class_names=("ok", "ng"),
            costs={"ok": {"ng": 1.0}, "ng": {"ok": 100.0}},
        )
        rise = cost_of(found).increase
        hits += rise.low <= truth <= rise.high
        wanted, one, other_ = map(np.array, (targets, before, after))
        price = np.where(wanted == 0, 1.0, 100.0)
        paid = price * ((other_ != wanted).astype(float) - (one != wanted))
        low, high = paired.mean_interval(paid / 100, 0.95)
        normal += 100 * low <= truth <= 100 * high
    assert hits >= 0.95 * 200
    assert normal < 0.9 * 200


def test_gates_on_cost_and_on_single_classes_judge_the_end_of_the_interval() -> None:
    found = compared()
    high = cost_of(found).increase.high
    limits = {
        "max_cost_increase": high,
        "max_missed_defect_rate": 0.5,
        "max_missed_defect_increase": {"dent": 0.01},
    }
    result = check_gates(found, limits)
    assert [(gate.name, gate.passed) for gate in result.gates] == [
        ("max_cost_increase", True),
        ("max_missed_defect_rate", True),
        ("max_missed_defect_increase.dent", False),
    ]
    assert not check_gates(found, {"max_cost_increase": 81.0}).passed  # measured is 80.5
    with pytest.raises(ConfigError, match=r"defect classes only.*no class 'ok'"):
        check_gates(found, {"max_missed_defect_increase": {"ok": 0.01}})
    bare = dataclasses.replace(found, error_cost=None)
    with pytest.raises(ConfigError, match=r"needs data\.costs"):
        check_gates(bare, {"max_cost_increase": 1.0})


def test_the_gate_on_shift_judges_the_worst_point_by_an_interval_of_the_family() -> None:
    def point(name: str, high: float, family: float) -> CorruptionPoint:
        score = Drop(
            value=0.01, low=0.0, high=high, confidence=0.95, baseline=0.9, pruned=0.89,
            num_examples=500,
        )  # fmt: skip
        return CorruptionPoint(
            corruption=name,
            severity=1,
            score=score,
            excess=score,
            p_value=1.0,
            p_adjusted=1.0,
            family=Interval(value=0.01, low=-0.01, high=family, confidence=0.975),
        )

    points = (point("blur", 0.02, 0.03), point("noise", 0.03, 0.05))
    clean = points[0].score
    shift = CorruptionRobustness(
        num_examples=500, confidence=0.95, clean=clean, points=points, seed=0
    )
    found = compared()
    assert check_gates(found, {"max_shift_drop": 0.05}, shift=shift).passed
    failed = check_gates(found, {"max_shift_drop": 0.04}, shift=shift)
    assert not failed.passed
    assert "noise, severity 1" in failed.gates[0].sentence
    with pytest.raises(ConfigError, match=r"needs shift\.examples"):
        check_gates(found, {"max_shift_drop": 0.04})


def test_the_number_of_examples_that_the_cost_needs_is_the_least_that_passes() -> None:
    limit, counts = 20.0, {"ok": 60, "scratch": 25, "dent": 15}
    with pytest.raises(ConfigError, match="it needs about") as caught:
        check_feasible({"max_cost_increase": limit}, counts, defect_class=DEFECTS, costs=COSTS)
    needed = int(str(caught.value).partition("about ")[2].split()[0])
    for factor, passes in ((1.02, True), (0.98, False)):
        targets = [
            index
            for index, count in enumerate(counts.values())
            for _ in range(round(count / 100 * factor * needed))
        ]
        same = outcomes(targets, targets)
        found = compare_outcomes(same, same, class_names=NAMES, costs=COSTS)
        assert check_gates(found, {"max_cost_increase": limit}).passed is passes


def test_gates_that_cannot_pass_say_what_they_lack() -> None:
    counts = {"ok": 900, "scratch": 25, "dent": 0}
    terms = {"defect_class": DEFECTS, "costs": COSTS}
    for limits, shown in (
        ({"max_missed_defect_increase": {"scrach": 0.1}}, "did you mean 'scratch'"),
        ({"max_missed_defect_increase": {"scratch": 0.1}}, "25 examples of class scratch"),
        ({"max_missed_defect_rate": 0.01}, "25 defective examples: it needs 368"),
        ({"max_cost_increase": 0.0}, "any number of examples"),
        ({"max_shift_drop": 0.05}, r"needs shift\.examples"),
    ):
        with pytest.raises(ConfigError, match=shown):
            check_feasible(limits, counts, **terms)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no test example of scratch, dent"):
        check_feasible({"max_cost_increase": 5.0}, {"ok": 90, "scratch": 0, "dent": 0},
                       defect_share=0.1, **terms)  # type: ignore[arg-type]  # fmt: skip
    assert examples_needed("max_missed_defect_rate", 0.01) == 368
    alone = int(examples_needed("max_shift_drop", 0.05))
    with pytest.raises(ConfigError, match=f"{alone} corrupted images: it needs"):
        check_feasible({"max_shift_drop": 0.05}, counts, shift_examples=alone, shift_points=21)
    check_feasible({"max_shift_drop": 0.05}, counts, shift_examples=alone, shift_points=1)
