"""An estimate with its ends is one record, and a difference says by its type which way it goes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from srinit.comparison import Difference, Drop, Rate, Rise
from srinit.comparison.differences import drop, rate, rise
from srinit.records import Interval, from_json, to_json

SOURCE = Path(__file__).parents[1] / "src" / "srinit"
BEFORE = np.array([1.0] * 9 + [0.0])
AFTER = np.array([1.0] * 6 + [0.0] * 4)


def test_what_is_lost_of_a_score_is_a_drop_and_what_is_added_to_an_error_a_rise() -> None:
    lost = drop(BEFORE, AFTER, 0.95, binary=True)
    more = rise(BEFORE < 1, AFTER < 1, 0.95)
    assert type(lost) is Drop
    assert type(more) is Rise
    assert lost.drop == pytest.approx(0.3)
    assert more.rise == pytest.approx(0.3)
    assert (lost.low, lost.high) == (more.low, more.high)
    assert (lost.baseline, lost.pruned) == (0.9, 0.6)
    assert (more.baseline, more.pruned) == (0.1, 0.4)
    assert not hasattr(lost, "rise")
    assert not hasattr(more, "drop")


def test_a_sign_is_changed_with_both_ends() -> None:
    loss = Interval(value=0.25, low=-0.5, high=0.75, confidence=0.9)
    assert -loss == Interval(value=-0.25, low=-0.75, high=0.5, confidence=0.9)
    gain = -loss
    assert -gain == loss


def test_nothing_observed_has_ends_and_no_value() -> None:
    none = np.array([])
    assert (drop(none, none, 0.95, binary=True).drop, rate(0, 0, 0.95).rate) == (None, None)
    with pytest.raises(ValueError, match="nothing was observed"):
        _ = rate(0, 0, 0.95).known


@pytest.mark.parametrize("kind", [Rate, Drop, Rise, Difference])
def test_what_has_ends_is_an_interval(kind: type[Interval]) -> None:
    assert issubclass(kind, Interval)
    found = {"hits": 1, "total": 2, "baseline": None, "pruned": None, "num_examples": 2}
    names = {field.name for field in dataclasses.fields(kind)}
    made = kind(
        value=0.5, low=0.1, high=0.9, confidence=0.95,
        **{key: value for key, value in found.items() if key in names},
    )  # fmt: skip
    assert from_json(kind, to_json(made, schema="t/1"), schema="t/1") == made


def test_no_record_holds_loose_ends() -> None:
    """Fields `x_low` and `x_high` beside each other would be an interval that is none."""
    found = []
    for path in SOURCE.rglob("*.py"):
        lines = path.read_text("utf-8").splitlines()
        fields = {line.split(":")[0].strip() for line in lines if ": float" in line}
        found += [f"{path.name}: {name}" for name in fields if f"{name[:-5]}_low" in fields]
    assert [name for name in found if name.endswith("_high")] == []
