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

__all__ = [
    "ClassChange",
    "Comparison",
    "CostSide",
    "DefectRisk",
    "Difference",
    "Rate",
    "compare",
    "compare_outcomes",
]
