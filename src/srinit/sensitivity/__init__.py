"""The scan: for every unit the score lost when it is re-initialized, with an interval."""

from srinit.sensitivity.estimate import Estimate, estimate_time, seconds_per_example
from srinit.sensitivity.progress import OnProgress
from srinit.sensitivity.ranks import Ranks, by_itself, error_of, process_group, told
from srinit.sensitivity.records import Decision, SchemeTrial, Sensitivity, UnitSensitivity
from srinit.sensitivity.scan import measure_sensitivity

__all__ = [
    "Decision",
    "Estimate",
    "OnProgress",
    "Ranks",
    "SchemeTrial",
    "Sensitivity",
    "UnitSensitivity",
    "by_itself",
    "error_of",
    "estimate_time",
    "measure_sensitivity",
    "process_group",
    "seconds_per_example",
    "told",
]
