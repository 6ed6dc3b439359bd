"""Whole-layer pruning for PyTorch with evidence.

The names below are the public interface; they are loaded when first used, so that importing
`srinit` imports neither torch nor anything else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from srinit.artifact import load_pruned, save_pruned
    from srinit.comparison import Comparison, compare
    from srinit.compensation import Compensation, compensate
    from srinit.errors import PruneError
    from srinit.finetune import TuneLog, fine_tune
    from srinit.gates import GateResult, check_gates
    from srinit.networks import Detector
    from srinit.pipeline.run import run
    from srinit.plan import PrunePlan, make_plan
    from srinit.runs.result import RunResult
    from srinit.sensitivity import Sensitivity, measure_sensitivity
    from srinit.surgery import apply_plan
    from srinit.units import UnitMap, find_units

__all__ = [
    "Comparison",
    "Compensation",
    "Detector",
    "GateResult",
    "PruneError",
    "PrunePlan",
    "RunResult",
    "Sensitivity",
    "TuneLog",
    "UnitMap",
    "apply_plan",
    "check_gates",
    "compare",
    "compensate",
    "find_units",
    "fine_tune",
    "load_pruned",
    "make_plan",
    "measure_sensitivity",
    "run",
    "save_pruned",
]

_ROOMS = {
    "artifact": ("load_pruned", "save_pruned"),
    "compensation": ("Compensation", "compensate"),
    "comparison": ("Comparison", "compare"),
    "errors": ("PruneError",),
    "finetune": ("TuneLog", "fine_tune"),
    "gates": ("GateResult", "check_gates"),
    "runs.result": ("RunResult",),
    "networks": ("Detector",),
    "pipeline.run": ("run",),
    "plan": ("PrunePlan", "make_plan"),
    "sensitivity": ("Sensitivity", "measure_sensitivity"),
    "surgery": ("apply_plan",),
    "units": ("UnitMap", "find_units"),
}
_WHERE = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module 'srinit' has no attribute {name!r}")
    return getattr(importlib.import_module(f"srinit.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
