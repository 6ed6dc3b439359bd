"""How long the steps of a run will take, from a few batches that are really timed."""

from __future__ import annotations

import math
from typing import Any

from srinit.config import Config
from srinit.config.steps import COMPENSATED
from srinit.finetune.choice import MOST_RATES, SHARE
from srinit.pipeline.resources import Resources
from srinit.pipeline.sizes import criterion_of, num_removed, num_rounds
from srinit.runs.records import DataFacts
from srinit.sensitivity import estimate_time, seconds_per_example
from srinit.steps import looking
from srinit.steps.trials import TRIAL_FIT
from srinit.units import UnitMap

BUDGET = 30.0  # seconds that timing may take, about; finding the units comes on top
TRIAL_FACTOR = 0.4  # of a forward: what lies before a unit is computed once, in cheap arithmetic
FIT_FACTOR = 12.0  # realignment by an example, in the cheap forwards of a trial
TRAINING_FACTOR = 4.0  # forward, backward and the teacher's forward, in forwards


def seconds_of_one(resources: Resources) -> float:
    """Return the time of one example through the unpruned network, in evaluation mode.

    First two examples are timed, then batches of the run's size, if there is time for them.
    """
    model, device = resources.model, resources.device
    few = seconds_per_example(model, resources.example_inputs, device, budget=BUDGET / 6)
    size = min(resources.config.data.batch_size, len(resources.split("calibration")))
    if 4 * size * few > BUDGET / 6:
        return few
    inputs, _ = next(iter(resources.execution.batches(resources.split("calibration"))))
    return seconds_per_example(model, inputs, device, budget=BUDGET / 6)


def scan_seconds(resources: Resources, units: UnitMap) -> float:
    """Return how long the scan will take, from the first batches of it or from a few forwards."""
    settings = resources.config.scan
    if not settings.measure:
        return 0.0
    return estimate_time(
        resources.model,
        units,
        resources.execution.batches(resources.split("calibration")),
        **{k: v for k, v in settings.options().items() if k != "precision"},  # no early end
        max_drop=resources.config.plan.max_drop,
        seed=resources.config.seed,
        scorer=resources.scorer,
        device=resources.device,
        budget=BUDGET / 2,
    ).seconds


def trial_examples(
    config: Config, removed: int, calibration: int, *, ranked: int = 0, batch: int = 128
) -> tuple[int, int]:
    """Return how many examples the trials before one cut read, and how many they train on.

    Every unit is tried alone and with those before it, next to the network without any: as it was
    cut, and compensated. Fitting that counts as so many more examples, trial tuning twice.

    Args:
        config: Of the run.
        removed: How many units go.
        calibration: How many examples there are.
        ranked: How many units trials rank, before that.
        batch: Examples of a step of training.
    """
    plan = config.plan
    if plan.trial_examples == 0 or not removed:
        return 0, 0
    read = min(plan.trial_examples, calibration)
    trials = 2 * removed - 1 + ranked
    compensates = config.compensate.method != "none"
    networks = trials * (1 + compensates) + 2
    fitted = trials * compensates * min(TRIAL_FIT, calibration // 3)
    return (
        networks * read + round(FIT_FACTOR * fitted),
        (trials - ranked) * plan.trial_steps * batch,
    )


def step_seconds(resources: Resources, units: UnitMap) -> dict[str, float]:
    """Return the seconds of each part of a whole run; with several rounds, of all together."""
    config = resources.config
    each = seconds_of_one(resources)
    sizes = {name: len(data) for name, data in resources.data.items()}
    recipe = resources.recovery.recipe
    removed = num_removed(config, len(units))
    count = num_rounds(config, removed, len(units))
    is_tried = criterion_of(config, len(units)) == COMPENSATED
    read, trained = trial_examples(
        config,
        math.ceil(removed / count),
        sizes.get("calibration", 0),
        ranked=is_tried * len(units),
        batch=recipe.batch_size,
    )
    if resources.recovery.few_steps(1) is None:
        trained = 0
    whole = TRAINING_FACTOR * sizes.get("train", 0) + sizes.get("validation", 0)
    training = each * recipe.epochs * whole
    if config.finetune.minutes is not None:
        training = 60 * config.finetune.minutes
    trials = 1 if config.finetune.lr is not None else MOST_RATES + 1
    tried = config.finetune.rehearsal * recipe.batch_size * trials * TRAINING_FACTOR
    training += each * min(tried, SHARE * recipe.epochs * whole)
    return {
        "baseline": each * sizes.get("validation", 0),
        "scan": count * scan_seconds(resources, units),
        "plan": count * each * (TRIAL_FACTOR * read + TRAINING_FACTOR * trained),
        "prune": count * 3 * each * sizes.get("validation", 0),
        "fine-tune": count * training,
        "compare": 2 * each * sizes.get("test", 0),
    }


def found_units(resources: Resources) -> UnitMap:
    """Return the units of a network before there is a run."""
    return looking.units(
        DataFacts(sets={}, notes=()),
        resources.fitted_model,
        resources.example_inputs,
        resources.config.units,
    )


def whole_run(config: Config) -> dict[str, Any]:
    """Return what a run would do and how long it takes, without writing anything."""
    resources = Resources(config)
    units = found_units(resources)
    seconds = step_seconds(resources, units)
    needed = resources.recovery.memory(resources.model)
    return {
        "model": config.model.source,
        "examples": {name: len(data) for name, data in resources.data.items()},
        "units": len(units),
        "can_show": [outlook.sentence for outlook in resources.outlooks],
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "total_seconds": round(sum(seconds.values()), 1),
        "training_memory": None if needed is None else needed.words(),
        "note": "from a few timed forwards or batches; latency measurements, export and report "
        "come on top",
    }
