"""Prediction logs, A/B comparison of two of them, and monitoring against a run's own baseline."""

from srinit.monitor.compare import (
    AnytimeInterval,
    LogComparison,
    SamplePlan,
    compare_logs,
    plan_test,
    sequential,
)
from srinit.monitor.drift import SCHEMA, DriftReport, Finding, Window, describe, detect_drift
from srinit.monitor.limits import Limits, Reference
from srinit.monitor.log import LaterLabel, LogWriter, Prediction, PredictionLog, read_log
from srinit.monitor.observations import Observations, from_log
from srinit.monitor.properties import image_properties

__all__ = [
    "SCHEMA",
    "AnytimeInterval",
    "DriftReport",
    "Finding",
    "LaterLabel",
    "Limits",
    "LogComparison",
    "LogWriter",
    "Observations",
    "Prediction",
    "PredictionLog",
    "Reference",
    "SamplePlan",
    "Window",
    "compare_logs",
    "describe",
    "detect_drift",
    "from_log",
    "image_properties",
    "plan_test",
    "read_log",
    "sequential",
]
