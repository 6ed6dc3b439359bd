"""Comparison without labels."""

from __future__ import annotations

import pytest
import torch

from srinit.comparison import Unlabeled, compare_unlabeled
from srinit.errors import DataError
from srinit.records import from_json, to_json
from zoo_plain import Answers

DATA = [(torch.tensor([[2.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 3.0]]), None)]


def test_flipped_examples_are_counted_by_class_and_no_label_is_read() -> None:
    found = compare_unlabeled(Answers(), Answers((0, 2)), DATA, class_names=("good", "defect"))
    assert (found.agreement.hits, found.agreement.total) == (2, 4)
    assert found.flipped == (0, 2)
    assert [(f.baseline, f.pruned, f.count) for f in found.flips] == [("good", "defect", 2)]
    assert found.confidence_shift.value == 0.0
    assert (
        found.confidence_shift.low < 0 < found.confidence_shift.high
    )  # four examples prove next to nothing
    text = to_json(found, schema="t/1")
    assert from_json(Unlabeled, text, schema="t/1") == found


def test_an_output_that_is_not_finite_agrees_with_nothing() -> None:
    found = compare_unlabeled(Answers(broken=(1,)), Answers(broken=(1,)), DATA)
    assert found.agreement.hits == 3
    assert found.flips[0].baseline == found.flips[0].pruned == "not finite"


def test_no_example_is_an_error() -> None:
    with pytest.raises(DataError, match="holds no example"):
        compare_unlabeled(Answers(), Answers(), [])
