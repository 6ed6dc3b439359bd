"""Prediction logs, A/B comparison of two of them, and monitoring against a run's own baseline."""

from srinit.monitor.compare import (
    AnytimeInterval,
    LogComparison,
    SamplePlan,
    compare_logs,
    plan_test,
    sequential,
)
from srinit.monitor.limits import Limits, Reference
from srinit.monitor.log import LaterLabel, LogWriter, Prediction, PredictionLog, read_log
from srinit.monitor.observations import Observations, from_log, image_properties
from srinit.monitor.watch import SCHEMA, Finding, Watch, Window, describe, watch

__all__ = [
    "SCHEMA",
    "AnytimeInterval",
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
    "Watch",
    "Window",
    "compare_logs",
    "describe",
    "from_log",
    "image_properties",
    "plan_test",
    "read_log",
    "sequential",
    "watch",
]
