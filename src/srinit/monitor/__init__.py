"""Prediction logs, A/B comparison of two of them, and monitoring against a run's own baseline."""

from srinit.monitor.compare import (
    AnytimeInterval,
    LogComparison,
    SamplePlan,
    compare_logs,
    plan_test,
    sequential,
)
from srinit.monitor.diagnosis import Diagnosis, diagnose
from srinit.monitor.drift import SCHEMA, DriftReport, Finding, Window
from srinit.monitor.limits import Limits, Reference
from srinit.monitor.log import LogWriter, Prediction, PredictionLog, read_log
from srinit.monitor.observations import Observations, joined
from srinit.monitor.properties import image_properties
from srinit.monitor.rows import LineCount, LogReader, later_labels, observe_log
from srinit.monitor.watch import Watch, WatchSettings, detect_drift

__all__ = [
    "SCHEMA",
    "AnytimeInterval",
    "Diagnosis",
    "DriftReport",
    "Finding",
    "Limits",
    "LineCount",
    "LogComparison",
    "LogReader",
    "LogWriter",
    "Observations",
    "Prediction",
    "PredictionLog",
    "Reference",
    "SamplePlan",
    "Watch",
    "WatchSettings",
    "Window",
    "compare_logs",
    "detect_drift",
    "diagnose",
    "image_properties",
    "joined",
    "later_labels",
    "observe_log",
    "plan_test",
    "read_log",
    "sequential",
]
