"""Which keys of the config an argument of a step rests on."""

from __future__ import annotations

INPUTS = ("model", "data", "score")
ERRORS = ("roi.missed_defect_cost", "roi.false_reject_cost", "roi.defect_share")
KEYS: dict[str, tuple[str, ...]] = {
    "model": INPUTS,
    "data": (*INPUTS, "seed"),  # which splits them
    "scorer": ("score",),
    "task": (*ERRORS, "compare.confidence"),
    "bench": ("compare.latency_batches",),
    "scan_goal": (),  # a scan serves every target
    "trials": ("plan", "compensate.method", "prune.recalibrate", "compare.confidence"),
    "planner": (
        "plan",
        "units.keep",
        "compare.latency_batches",
        "compare.confidence",
        "compensate.method",
        "prune.recalibrate",
    ),
    "compensator": ("compensate", "prune", "compare.confidence"),
    "recovery": ("finetune",),
    "site": ("data.site",),
    "quantizer": (
        "export.int8",
        "gates",
        "compare.latency_batches",
        "compare.confidence",
        *ERRORS,
    ),
    "explorer": (
        "alternatives",
        "gates",
        "compare.latency_batches",
        "compare.confidence",
        *ERRORS,
    ),
    "packer": ("export.package", "export.license"),
    "corruptions": ("shift.corruptions",),
    "base": ("model", "export"),
}
"""The keys of the config that an argument of a step rests on; sections rest on themselves."""
