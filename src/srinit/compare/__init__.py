"""Comparison of the unpruned and the pruned network."""

from srinit.compare.paired import compare, compare_outcomes
from srinit.compare.records import (
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
