"""How long the stages of a run will take, from a few batches that are really timed."""

from __future__ import annotations

import time
from typing import Any

import torch

from srinit import modules
from srinit.config import Config
from srinit.pipeline import recovery
from srinit.pipeline.observer import Silent
from srinit.pipeline.session import Session
from srinit.sensitivity import estimate_time
from srinit.units import UnitMap, find_units

TIMED_BATCHES = 3
TRAINING_FACTOR = 4.0  # forward, backward and the teacher's forward, in forwards


def seconds_per_example(session: Session) -> float:
    """Return the time of one example through the unpruned network, in evaluation mode."""
    found: list[float] = []
    batches = iter(session.batches("calibration"))
    with modules.eval_mode(session.model), torch.inference_mode():
        for number, (inputs, _) in enumerate(batches):
            placed = modules.to_device(inputs, session.device)
            begin = time.perf_counter()
            modules.call(session.model, placed)
            if session.device.type == "cuda":
                torch.cuda.synchronize(session.device)
            if number:  # the first warms up
                found.append((time.perf_counter() - begin) / modules.batch_size(inputs))
            if number == TIMED_BATCHES:
                break
    return sorted(found)[len(found) // 2] if found else 0.0


def scan_seconds(session: Session, units: UnitMap) -> float:
    """Return how long the scan will take, from the first batches of it."""
    settings = session.config.scan
    return estimate_time(
        session.model,
        units,
        session.batches("calibration"),
        scheme=settings.scheme,
        scale=settings.scale,
        draws=settings.draws,
        half_width=settings.half_width,
        confidence=settings.confidence,
        max_drop=session.config.plan.max_drop,
        seed=session.config.seed,
        scorer=session.scorer,
        device=session.device,
    ).seconds


def stages(session: Session, units: UnitMap) -> dict[str, float]:
    """Return the seconds of each stage of a whole run."""
    each = seconds_per_example(session)
    sizes = {name: len(data) for name, data in session.data.items()}
    return {
        "baseline": each * sizes.get("validation", 0),
        "scan": scan_seconds(session, units),
        "prune": 3 * each * sizes.get("validation", 0),
        "fine-tune": each
        * (
            recovery.recipe(session).epochs
            * (TRAINING_FACTOR * sizes.get("train", 0) + sizes.get("validation", 0))
        ),
        "compare": 2 * each * sizes.get("test", 0),
    }


def whole_run(config: Config) -> dict[str, Any]:
    """Return what a run would do and how long it takes, without writing anything."""
    session = Session(config, folder=None, observer=Silent())
    session.check_fit()
    settings = config.units
    units = find_units(
        session.model, session.example_inputs, keep=settings.keep, level=settings.level
    )
    seconds = stages(session, units)
    return {
        "model": config.model.source,
        "examples": {name: len(data) for name, data in session.data.items()},
        "units": len(units),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "total_seconds": round(sum(seconds.values()), 1),
        "note": "from a few timed batches; latency measurements, export and report come on top",
    }
