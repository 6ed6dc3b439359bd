"""Comparison of the unpruned and the pruned network."""

from srinit.comparison.paired import compare, compare_outcomes
from srinit.comparison.records import (
    ClassChange,
    Comparison,
    CostSide,
    DefectRisk,
    Difference,
    Rate,
)
from srinit.comparison.shift import Shift, ShiftPoint, measure_shift, shift_csv
from srinit.comparison.unlabeled import Flip, Unlabeled, compare_unlabeled

__all__ = [
    "ClassChange",
    "Comparison",
    "CostSide",
    "DefectRisk",
    "Difference",
    "Flip",
    "Rate",
    "Shift",
    "ShiftPoint",
    "Unlabeled",
    "compare",
    "compare_outcomes",
    "compare_unlabeled",
    "measure_shift",
    "shift_csv",
]
