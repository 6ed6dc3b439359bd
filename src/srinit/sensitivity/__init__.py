"""The scan: for every unit the score lost when it is re-initialized, with an interval."""

from srinit.sensitivity.estimate import Estimate, estimate_time, seconds_per_example
from srinit.sensitivity.progress import OnProgress
from srinit.sensitivity.records import (
    Decision,
    SchemeTrial,
    Sensitivity,
    UnitSensitivity,
    unscanned,
)
from srinit.sensitivity.scan import measure_sensitivity
from srinit.sensitivity.settings import Settings

__all__ = [
    "Decision",
    "Estimate",
    "OnProgress",
    "SchemeTrial",
    "Sensitivity",
    "Settings",
    "UnitSensitivity",
    "estimate_time",
    "measure_sensitivity",
    "seconds_per_example",
    "unscanned",
]
