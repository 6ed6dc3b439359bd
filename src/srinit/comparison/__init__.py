"""Comparison of the unpruned and the pruned network."""

from srinit.comparison.defects import Costs, find_defects
from srinit.comparison.differences import drop, rate
from srinit.comparison.field_data import (
    FieldComparison,
    FlippedExample,
    field_csv,
    flipped_examples,
)
from srinit.comparison.paired import compare, compare_outcomes
from srinit.comparison.precision import AveragePrecision, PrecisionChange
from srinit.comparison.records import (
    ClassChange,
    ClassMisses,
    Comparison,
    CostSide,
    DefectRisk,
    Difference,
    Drop,
    ErrorCost,
    PerplexityChange,
    Rate,
    Rise,
)
from srinit.comparison.robustness import (
    CorruptionPoint,
    CorruptionRobustness,
    measure_robustness,
    robustness_csv,
)
from srinit.comparison.together import shared_outcomes
from srinit.comparison.unlabeled import (
    Flip,
    Unlabeled,
    Unread,
    compare_unlabeled,
    unlabeled_outcomes,
)

__all__ = [
    "AveragePrecision",
    "ClassChange",
    "ClassMisses",
    "Comparison",
    "CorruptionPoint",
    "CorruptionRobustness",
    "CostSide",
    "Costs",
    "DefectRisk",
    "Difference",
    "Drop",
    "ErrorCost",
    "FieldComparison",
    "Flip",
    "FlippedExample",
    "PerplexityChange",
    "PrecisionChange",
    "Rate",
    "Rise",
    "Unlabeled",
    "Unread",
    "compare",
    "compare_outcomes",
    "compare_unlabeled",
    "drop",
    "field_csv",
    "find_defects",
    "flipped_examples",
    "measure_robustness",
    "rate",
    "robustness_csv",
    "shared_outcomes",
    "unlabeled_outcomes",
]
