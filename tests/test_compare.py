"""Comparison of two networks, and the gates that judge it."""

from __future__ import annotations

import numpy as np
import pytest

from srinit.comparison import Comparison, compare_outcomes
from srinit.errors import ConfigError, DataError
from srinit.evaluate import Outcomes
from srinit.gates import check_feasible, check_gates, class_outlooks, examples_needed

NAMES = ("good", "defect")


def outcomes(targets: list[int], predictions: list[int]) -> Outcomes:
    wanted, found = np.array(targets), np.array(predictions)
    return Outcomes(
        scores=(wanted == found).astype(float),
        finite=found >= 0,
        targets=wanted,
        predictions=found,
        confidence=np.full(len(found), 0.9),
    )


@pytest.fixture
def comparison() -> Comparison:
    targets = [0] * 80 + [1] * 20
    before = outcomes(targets, [0] * 80 + [1] * 20)
    after = outcomes(targets, [0] * 78 + [1] * 2 + [1] * 17 + [0] * 3)
    return compare_outcomes(before, after, class_names=NAMES, defect_class="defect")


def test_counts_of_lost_and_gained_add_up(comparison: Comparison) -> None:
    assert (comparison.lost, comparison.gained) == (5, 0)
    assert comparison.score.drop == pytest.approx(0.05)
    assert comparison.score.low <= 0.05 <= comparison.score.high
    assert comparison.newly_wrong == (78, 79, 97, 98, 99)


def test_missed_defects_and_rejected_good_parts_are_told_apart(comparison: Comparison) -> None:
    risk = comparison.defects
    assert risk is not None
    assert (risk.missed_pruned.hits, risk.missed_pruned.total) == (3, 20)
    assert (risk.rejected_pruned.hits, risk.rejected_pruned.total) == (2, 80)
    assert risk.missed_increase.rise == pytest.approx(0.15)
    assert risk.missed_increase.baseline == 0.0
    assert risk.missed_increase.pruned == pytest.approx(0.15)
    assert "3 misses in 20 defects show only" in risk.note


def test_class_recall_and_precision_change(comparison: Comparison) -> None:
    good, defect = comparison.classes
    assert good.recall.pruned == pytest.approx(78 / 80)
    assert defect.precision_pruned == pytest.approx(17 / 19)
    assert all(row.p_adjusted >= row.p_value for row in comparison.classes)


def test_identical_networks_agree_everywhere() -> None:
    same = outcomes([0, 1, 0, 1], [0, 1, 1, 1])
    found = compare_outcomes(same, same)
    assert found.agreement.rate == 1.0
    assert found.score.drop == 0.0
    assert found.p_value == 1.0
    assert found.score.high > 0.3  # four examples prove next to nothing


def test_different_examples_are_refused() -> None:
    with pytest.raises(DataError, match="same examples"):
        compare_outcomes(outcomes([0, 1], [0, 1]), outcomes([1, 1], [0, 1]))


def test_unknown_defect_class_is_named() -> None:
    one = outcomes([0, 1], [0, 1])
    with pytest.raises(ConfigError, match="no class 'ng'"):
        compare_outcomes(one, one, class_names=NAMES, defect_class="ng")


def test_gate_judges_the_end_of_the_interval_not_the_estimate(comparison: Comparison) -> None:
    between = (0.05 + comparison.score.high) / 2
    assert not check_gates(comparison, {"max_drop": between}).passed
    assert check_gates(comparison, {"max_drop": comparison.score.high}).passed


def test_every_gate_is_judged_and_the_failed_one_is_named(comparison: Comparison) -> None:
    limits = {"max_drop": 0.5, "max_missed_defect_increase": 0.1, "min_agreement": 0.5}
    result = check_gates(comparison, limits)
    assert [gate.passed for gate in result.gates] == [True, False, True]
    assert [gate.name for gate in result.failed] == ["max_missed_defect_increase"]
    assert "+15.00 points" in result.failed[0].sentence


def test_unknown_gate_and_gate_without_measurement_are_errors(comparison: Comparison) -> None:
    with pytest.raises(ConfigError, match="no gate 'max_dorp'"):
        check_gates(comparison, {"max_dorp": 0.1})
    with pytest.raises(ConfigError, match="needs measured latency"):
        check_gates(comparison, {"max_latency_ratio": 1.0})


def test_one_class_may_have_its_own_limit(comparison: Comparison) -> None:
    result = check_gates(comparison, {"max_class_recall_drop": {"good": 0.2, "defect": 0.1}})
    assert [(gate.name, gate.passed) for gate in result.gates] == [
        ("max_class_recall_drop.good", True),
        ("max_class_recall_drop.defect", False),
    ]
    with pytest.raises(ConfigError, match=r"no class 'defekt'.*did you mean 'defect'"):
        check_gates(comparison, {"max_class_recall_drop": {"defekt": 0.1}})


@pytest.mark.parametrize("margin", [0.005, 0.02, 0.1])
@pytest.mark.parametrize("gate", ["max_drop", "min_agreement"])
def test_the_number_of_examples_needed_is_the_least_that_passes(gate: str, margin: float) -> None:
    limit = margin if gate == "max_drop" else 1 - margin
    needed = int(examples_needed(gate, limit))
    for count, passes in ((needed, True), (needed - 1, False)):
        same = outcomes([0] * count, [0] * count)
        assert check_gates(compare_outcomes(same, same), {gate: limit}).passed is passes


def test_gates_that_can_never_pass_are_all_named_before_the_work() -> None:
    counts = {"good": 900, "defect": 20}
    check_feasible({"max_drop": 0.02}, counts)
    limits = {
        "max_missed_defect_increase": 0.05,
        "max_false_reject_increase": 0.02,
        "max_class_recall_drop": {"crack": 0.05, "good": 0.05},
        "min_agreement": 1.0,
    }
    with pytest.raises(ConfigError, match="20 defective examples: it needs 73") as caught:
        check_feasible(limits, counts, defect_class="defect")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "there is no class 'crack'" in lines[1]
    assert "any number of examples" in lines[2]


def test_a_class_that_got_significantly_worse_fails_unless_it_has_a_limit_of_its_own() -> None:
    labels = [0] * 300 + [1] * 24
    before = outcomes(labels, labels)
    found = {}
    for lost in (3, 4):
        after = outcomes(labels, [*[0] * 300, *[0] * lost, *[1] * (24 - lost)])
        found[lost] = compare_outcomes(before, after, class_names=NAMES, defect_class="defect")
    limits = {"max_drop": 0.1, "max_worse_classes": 0.0}
    assert check_gates(found[3], limits).passed
    result = check_gates(found[4], limits)
    assert [gate.passed for gate in result.gates] == [True, False]
    assert "1 of 2 (defect by +16.67 points)" in result.failed[0].sentence
    assert "a loss of 4 or more (17 points) is noticed" in result.failed[0].sentence
    own = {"max_class_recall_drop": {"defect": 0.5}, **limits}
    assert check_gates(found[4], own).passed
    assert check_gates(compare_outcomes(before, before), limits).passed


def test_few_examples_say_beforehand_what_they_can_show() -> None:
    shown = class_outlooks({"good": 900, "defect": 24, "dent": 2, "none": 0})
    assert [each.name for each in shown] == ["none", "dent", "defect"]
    assert [each.noticed for each in shown] == [None, None, 8]  # four classes are judged
    (alone,) = class_outlooks({"good": 900, "defect": 24}, defects=["defect"])
    assert alone.noticed == 4
    assert shown[2].excluded == pytest.approx(0.138, abs=1e-3)
    assert "nothing can be shown" in shown[0].sentence
    assert "not even the loss of all" in shown[1].sentence
    assert [each.name for each in class_outlooks({"a": 5, "b": 7}, defects=["b"])] == ["b"]
