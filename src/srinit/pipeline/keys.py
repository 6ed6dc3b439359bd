"""Which keys of the config an argument of a step rests on."""

from __future__ import annotations

from srinit.custody.depends import ERRORS

INPUTS = ("model", "data", "score")
APART = ("data.site", "data.augment", "data.defect_class", "data.costs")
"""Keys of `data` that the examples do not rest on; a step that reads one names it."""
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
    "recovery": ("finetune", "data.augment"),
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
