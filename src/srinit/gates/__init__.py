"""Judges a comparison by limits that were set before; measures nothing."""

from srinit.gates.feasible import check_class_names, check_feasible, examples_needed
from srinit.gates.judges import check_gates, check_unlabeled
from srinit.gates.outlook import ClassOutlook, class_outlooks
from srinit.gates.records import Gate, GateResult, Limits

__all__ = [
    "ClassOutlook",
    "Gate",
    "GateResult",
    "Limits",
    "check_class_names",
    "check_feasible",
    "check_gates",
    "check_unlabeled",
    "class_outlooks",
    "examples_needed",
]
