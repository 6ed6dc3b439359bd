"""How long the stages of a run will take, from a few batches that are really timed."""

from __future__ import annotations

import time
from typing import Any

import torch

from srinit import modules
from srinit.config import Config
from srinit.pipeline.observer import Silent
from srinit.pipeline.session import Session

TIMED_BATCHES = 3
TRAINING_FACTOR = 4.0  # forward, backward and the teacher's forward, in forwards
SCAN_EXAMPLES = 2000  # unit-image evaluations that a unit takes at a half-width of 0.02


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


def stages(session: Session, num_units: int) -> dict[str, float]:
    """Return the seconds of each stage of a whole run."""
    each = seconds_per_example(session)
    sizes = {name: len(data) for name, data in session.data.items()}
    precision = (0.02 / session.config.scan.half_width) ** 2
    draws = session.config.scan.draws
    per_unit = draws * sizes["calibration"] if draws else SCAN_EXAMPLES * precision
    return {
        "baseline": each * sizes.get("validation", 0),
        "scan": each * (sizes["calibration"] + num_units * per_unit / 2),
        "prune": 3 * each * sizes.get("validation", 0),
        "fine-tune": each
        * (
            session.config.finetune.epochs
            * (TRAINING_FACTOR * sizes.get("train", 0) + sizes.get("validation", 0))
        ),
        "compare": 2 * each * sizes.get("test", 0),
    }


def whole_run(config: Config) -> dict[str, Any]:
    """Return what a run would do and how long it takes, without writing anything."""
    from srinit.units import find_units

    session = Session(config, folder=None, observer=Silent())
    session.check_fit()
    units = find_units(session.model, session.example_inputs)
    seconds = stages(session, len(units))
    return {
        "model": config.model.source,
        "examples": {name: len(data) for name, data in session.data.items()},
        "units": len(units),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "total_seconds": round(sum(seconds.values()), 1),
        "note": "from a few timed batches; latency measurements, export and report come on top",
    }
