"""Both networks on test data, read once; on corrupted images; and what the gates say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from srinit.comparison import (
    Comparison,
    CorruptionRobustness,
    CostSide,
    PrecisionChange,
    measure_robustness,
)
from srinit.comparison.precision import average_precision
from srinit.comparison.precision import tool as precision_tool
from srinit.config.sections import (
    DataSection,
    GatesSection,
    InferenceCostSection,
    RobustnessSection,
)
from srinit.custody import readings as ledger
from srinit.custody.depends import ERRORS
from srinit.custody.readings import Readings
from srinit.errors import DataError, MissingExtraError
from srinit.evaluate import Detection, Outcomes
from srinit.evaluate.detection import detections
from srinit.gates import GateResult, check_gates
from srinit.inference_cost import InferenceCost, measure_pair
from srinit.runs import RunFiles, artifacts
from srinit.runs.inputs import config_of
from srinit.runs.kinds import PairedOutcomes
from srinit.runs.records import CutMetrics
from srinit.sources import DataSet
from srinit.steps.field_data import with_site
from srinit.steps.looking import WARNING
from srinit.steps.table import step
from srinit.steps.task import Bench, Evaluator, Execution, Task


@step(artifacts.READINGS, part="judgement")
def readings(test: DataSet, files: RunFiles, execution: Execution) -> Readings:
    """Return how often the test data were read before, and say so."""
    source, config = None, config_of(files.folder)
    if config.model.source.startswith("run:"):
        source = config.root / config.model.source.removeprefix("run:")
    found = ledger.find(files.folder.path, test.ids, test.data_hash, source=source)
    if found.earlier:
        execution.observer.say(f"{WARNING} {found.words()}")
    return found


@step(artifacts.PREDICTIONS, part="predictions", together=True)
def predictions(
    model: nn.Module,
    tuned: nn.Module,
    test: DataSet,
    outcomes_of: Evaluator,
    files: RunFiles,
    execution: Execution,
) -> PairedOutcomes:
    """Return what both networks answer on test data; it is read here and for its corruptions."""
    if not execution.ranks.rank:
        ledger.note_read(files.folder, test.ids, test.data_hash)
    count, progress = len(test), execution.observer.progress
    return PairedOutcomes(
        baseline=outcomes_of(model, test, on_progress=lambda done, _: progress(done, 2 * count)),
        pruned=outcomes_of(
            tuned, test, on_progress=lambda done, _: progress(count + done, 2 * count)
        ),
        ids=np.array(test.ids),
    )


@step(
    artifacts.COMPARISON,
    part="comparison",
    says=("compare", lambda found: f"drop {found.score.drop}"),
    keys={"task": ("compare", *ERRORS)},
    but=("compare.on_production_device",),
)  # fmt: skip
def comparison(
    predictions: PairedOutcomes,
    cut: CutMetrics,
    model: nn.Module,
    tuned: nn.Module,
    test: DataSet,
    task: Task,
    bench: Bench,
    data_settings: DataSection,
) -> Comparison:
    """Return the two networks compared; rank 0 times them alone."""
    return task.compared(
        predictions.baseline,
        predictions.pruned,
        cost=cost_side(cut),
        latency=bench.pairs(model, tuned),
        documents=test.documents,
        data=data_settings.test or data_settings.source or "",
        data_hash=test.data_hash,
    )


@step(artifacts.PRECISION, part="comparison")
def precision(
    predictions: PairedOutcomes,
    model: nn.Module,
    tuned: nn.Module,
    test: DataSet,
    outcomes_of: Evaluator,
) -> PrecisionChange | None:
    """Return the mean average precision of two detectors; None for other networks.

    `predictions` were read before: what is read here again is the same.
    """
    if not isinstance(outcomes_of.scorer, Detection):
        return None
    batches = outcomes_of.execution.batches(test)
    objects = [image[image[:, 0] > 0] for image in test.targets.astype(float)]
    try:
        sides = [
            average_precision(detections(network, batches), objects, test.class_names)
            for network in (model, tuned)
        ]
    except MissingExtraError as error:
        outcomes_of.execution.observer.say(f"no mean average precision: {error}")
        return None
    return PrecisionChange(
        baseline=sides[0], pruned=sides[1], num_images=len(test), tool=precision_tool()
    )


def cost_side(cut: CutMetrics) -> CostSide:
    """Return size and compute of both networks."""
    before, after = cut.cost_before, cut.cost_after
    return CostSide(
        params_baseline=before.params,
        params_pruned=after.params,
        flops_baseline=before.flops,
        flops_pruned=after.flops,
        size_bytes_baseline=before.size_bytes,
        size_bytes_pruned=after.size_bytes,
        not_counted=before.not_counted,
    )


@step(
    artifacts.SHIFT,
    part="shift",
    says=("shift", lambda found: f"{len(found.significant)} of {len(found.points)} points are "
          "worse"),
    reason=lambda found: f"worst: {found.worst.corruption} {found.worst.severity}"
    if found.worst
    else "",
    together=True,
    keys={"task": ("compare.confidence",)},
)  # fmt: skip
def shift(
    model: nn.Module,
    tuned: nn.Module,
    test: DataSet,
    shift_settings: RobustnessSection,
    corruptions: Mapping[str, Any],
    task: Task,
    execution: Execution,
) -> CorruptionRobustness | None:
    """Return both networks on corrupted test images; None where the config asks for none.

    Raises:
        DataError: The data holds no images.
    """
    if shift_settings.examples == 0:
        return None
    if not test.pool.holds_images:
        raise DataError(
            "shift needs images, and the test data holds other inputs: write shift.examples: 0."
        )
    chosen = test.by_content(shift_settings.examples)
    return measure_robustness(
        model,
        tuned,
        chosen.pool.pixels(chosen.indices),
        torch.from_numpy(chosen.targets),
        to_inputs=chosen.pool.preprocess.normalized,
        corruptions=dict(corruptions),
        severities=shift_settings.severities,
        scorer=task.scorer,
        ids=chosen.ids,
        batch_size=execution.batch_size,
        confidence=task.confidence,
        seed=execution.seed,
        ranks=execution.ranks,
        on_progress=execution.observer.progress,
    )


@step(
    artifacts.GATES,
    part="judgement",
    says=("gate", lambda found: "passed" if found.passed else "failed"),
    reason=lambda found: "; ".join(gate.sentence for gate in found.failed),
)
def gates(
    readings: Readings,
    comparison: Comparison,
    shift: CorruptionRobustness | None,
    site_gates: GateResult | None,
    gates_settings: GatesSection,
    files: RunFiles,
) -> GateResult:
    """Return what the gates of the config say about the comparison."""
    limits = gates_settings.limits()
    result = check_gates(comparison, limits, shift=shift if "max_shift_drop" in limits else None)
    if gates_settings.site:
        result = with_site(result, site_gates)
    judged = {gate.name: gate.limit for gate in result.gates}
    judged[ledger.CONFIDENCE] = comparison.confidence
    verdict = "passed" if result.passed else "failed"
    ledger.note(files.folder, "judged", verdict, {"limits": judged})
    return result


# Gates that a part of the way to the target cannot hold, or that validation data cannot show.
FINAL_ONLY = ("max_latency_ratio", "max_params_ratio", "max_shift_drop", "max_worse_classes")


@step(
    artifacts.VALIDATION,
    artifacts.VALIDATION_GATES,
    part="rounds",
    says=("gate", lambda _, found: f"{'passed' if found.passed else 'failed'} on validation"),
    reason=lambda _, found: "; ".join(gate.sentence for gate in found.failed),
    together=True,
)
def judged_on_validation(
    baseline_outcomes: Outcomes,
    tuned: nn.Module,
    validation: DataSet,
    outcomes_of: Evaluator,
    task: Task,
    gates_settings: GatesSection,
    data_settings: DataSection,
) -> tuple[Comparison, GateResult]:
    """Return the round on validation data, and what the gates say of it."""
    comparison = task.compared(
        baseline_outcomes,
        outcomes_of(tuned, validation),
        documents=validation.documents,
        data=data_settings.validation or data_settings.source or "",
        data_hash=validation.data_hash,
    )
    return comparison, check_gates(comparison, round_limits(gates_settings))


def round_limits(settings: GatesSection) -> dict[str, Any]:
    """Return the gates that every round must hold."""
    return {name: limit for name, limit in settings.limits().items() if name not in FINAL_ONLY}


@step(artifacts.OWNERSHIP, part="inference cost")
def ownership(
    model: nn.Module, tuned: nn.Module, bench: Bench, ownership_settings: InferenceCostSection
) -> InferenceCost:
    """Return what 1,000 answers of either network cost on this device."""
    return InferenceCost(
        pairs=tuple(
            measure_pair(
                model,
                tuned,
                bench.inputs,
                batch_size=size,
                watts_per_core=ownership_settings.watts_per_core,
                device_watts=ownership_settings.device_watts,
            )
            for size in bench.batch_sizes
        )
    )
