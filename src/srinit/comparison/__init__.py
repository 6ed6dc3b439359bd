"""Comparison of the unpruned and the pruned network."""

from srinit.comparison.defects import Costs, find_defects
from srinit.comparison.differences import drop, rate
from srinit.comparison.paired import compare, compare_outcomes
from srinit.comparison.records import (
    ClassChange,
    ClassMisses,
    Comparison,
    CostSide,
    DefectRisk,
    Difference,
    Drop,
    ErrorCost,
    Rate,
    Rise,
)
from srinit.comparison.shift import Shift, ShiftPoint, measure_shift, shift_csv
from srinit.comparison.site import FlippedExample, Site, flipped_examples, site_csv
from srinit.comparison.together import shared_outcomes
from srinit.comparison.unlabeled import (
    Flip,
    Unlabeled,
    Unread,
    compare_unlabeled,
    unlabeled_outcomes,
)

__all__ = [
    "ClassChange",
    "ClassMisses",
    "Comparison",
    "CostSide",
    "Costs",
    "DefectRisk",
    "Difference",
    "Drop",
    "ErrorCost",
    "Flip",
    "FlippedExample",
    "Rate",
    "Rise",
    "Shift",
    "ShiftPoint",
    "Site",
    "Unlabeled",
    "Unread",
    "compare",
    "compare_outcomes",
    "compare_unlabeled",
    "drop",
    "find_defects",
    "flipped_examples",
    "measure_shift",
    "rate",
    "shared_outcomes",
    "shift_csv",
    "site_csv",
    "unlabeled_outcomes",
]
