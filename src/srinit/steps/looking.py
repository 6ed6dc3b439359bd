"""The steps that only look: the data, the unpruned network, its units, the scan, the criteria."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from srinit.config.sections import BaselineSection, PlanSection, ScanSection, UnitsSection
from srinit.config.steps import AUTO, COMPENSATED, SHALLOW
from srinit.cost import count_cost
from srinit.criteria import Criterion, UnitScores, score_units, scores_of
from srinit.errors import DataError
from srinit.evaluate import Outcomes, Scorer, Suspicion, suspicions
from srinit.runs import RunFiles, artifacts
from srinit.runs.records import (
    BaselineMetrics,
    DataFacts,
    ReferenceScores,
    SetFacts,
    class_scores,
)
from srinit.sensitivity import Sensitivity, measure_sensitivity, unscanned
from srinit.sources import DataSet, describe
from srinit.steps.normalization import better_normalization
from srinit.steps.table import step
from srinit.steps.task import Bench, Evaluator, Execution, Task
from srinit.steps.trials import Trials
from srinit.units import UnitMap, find_units

WARNING = "WARNING:"


@step(artifacts.DATA_FACTS, part="data")
def data_facts(data: Mapping[str, DataSet]) -> DataFacts:
    """Return what the data are: counts, what was left out, what does not fit."""
    return DataFacts(
        sets={
            name: SetFacts(
                num_examples=len(each),
                classes=each.class_counts,
                data_hash=each.data_hash,
            )
            for name, each in data.items()
        },
        notes=tuple(describe(data)),
    )


@step(artifacts.BASELINE_OUTCOMES, part="answers", together=True)
def baseline_outcomes(
    told_data: DataFacts,
    fitted_model: nn.Module,
    validation: DataSet,
    outcomes_of: Evaluator,
    execution: Execution,
) -> Outcomes:
    """Return the unpruned network's answers on validation data."""
    return outcomes_of(fitted_model, validation, on_progress=execution.observer.progress)


@step(
    artifacts.BASELINE,
    part="baseline",
    says=("baseline", lambda found: f"score {found.score}"),
    reason=lambda found: "; ".join(f"{WARNING} {each.text}" for each in found.warnings),
    keys={"task": ()},
)
def baseline(
    baseline_outcomes: Outcomes,
    model: nn.Module,
    calibration: DataSet,
    task: Task,
    bench: Bench,
    baseline_settings: BaselineSection,
    execution: Execution,
) -> BaselineMetrics:
    """Return the unpruned network's metrics on validation data, and what it costs.

    Raises:
        DataError: The score is further from `baseline.expected_top1` than the tolerance.
    """
    outcomes = baseline_outcomes
    warnings = _suspicions(outcomes, model, calibration, task, execution)
    _check_expected(outcomes, baseline_settings, execution)
    cost = count_cost(model, bench.inputs)
    return BaselineMetrics(
        score=outcomes.score,
        num_examples=outcomes.num_examples,
        nonfinite=float(1 - outcomes.finite.mean()),
        classes=class_scores(outcomes, task.class_names),
        params=cost.params,
        flops=cost.flops,
        size_bytes=cost.size_bytes,
        latency=bench.alone(model),
        device=str(execution.device),
        not_counted=cost.not_counted,
        warnings=warnings,
    )


def _suspicions(
    outcomes: Outcomes, model: nn.Module, data: DataSet, task: Task, execution: Execution
) -> tuple[Suspicion, ...]:
    """Return the signs that the network was put together wrongly, and say them."""
    if task.score != "top1" or not len(outcomes.targets):
        return ()
    found = suspicions(outcomes.targets, outcomes.predictions, task.class_names)
    exchanged = [each.values for each in found if each.kind == "exchanged"]
    explained = sum(int(each["would"]) - int(each["now"]) for each in exchanged)
    above = outcomes.score + explained / len(outcomes.targets)
    if task.class_names:
        found += better_normalization(model, data, execution, above=above)
    for each in found:
        execution.observer.say(f"{WARNING} the unpruned network: {each.text}.")
    return found


def _check_expected(outcomes: Outcomes, settings: BaselineSection, execution: Execution) -> None:
    if not outcomes.finite.all():
        execution.observer.say(
            f"{int((~outcomes.finite).sum())} outputs hold NaN or infinity; they count as wrong."
        )
    if settings.expected_top1 is None:
        return
    gap = abs(outcomes.score - settings.expected_top1)
    if gap > settings.tolerance:
        raise DataError(
            f"the unpruned network scores {outcomes.score:.4f} on {outcomes.num_examples} "
            f"validation examples, expected {settings.expected_top1:.4f} "
            f"(baseline.expected_top1, tolerance {settings.tolerance:.4f}). Commonest causes: a "
            "wrong resize or normalization (data.preprocess), another class order, other weights."
        )


@step(artifacts.UNITS, part="units", but=("units.keep",))
def units(
    told_data: DataFacts,
    fitted_model: nn.Module,
    example_inputs: Any,
    units_settings: UnitsSection,
) -> UnitMap:
    """Return the units of the network as `units` of the config asks for them."""
    return find_units(
        fitted_model,
        example_inputs,
        keep=units_settings.keep,
        level=units_settings.level,
        include_plain=units_settings.include_plain,
        select=units_settings.select,
    )


@step(
    artifacts.SENSITIVITY,
    part="scan",
    says=(
        "scan",
        lambda found: "left out" if found.is_off else f"measured {len(found.units)} units",
    ),
    together=True,
)
def sensitivity(
    model: nn.Module,
    units: UnitMap,
    calibration: DataSet,
    scorer: Scorer,
    scan_settings: ScanSection,
    scan_goal: dict[str, Any],
    files: RunFiles,
    execution: Execution,
) -> Sensitivity:
    """Return the sensitivity of every unit; the journal beside it makes the scan resumable."""
    if not scan_settings.measure:
        return unscanned(units, confidence=scan_settings.confidence, seed=execution.seed)
    journal = files.path(artifacts.SENSITIVITY).with_name("observations.jsonl")
    files.folder.refuse_links(journal)
    found = measure_sensitivity(
        model,
        units,
        execution.batches(calibration),
        **scan_settings.options(),
        **scan_goal,
        seed=execution.seed,
        scorer=scorer,
        device=execution.device,
        journal=journal,
        on_progress=execution.observer.progress,
    )
    return replace(found, seconds=None)  # equal scans leave equal files


CRITERION_KEYS = {
    "plan_settings": ("plan.criterion", "plan.criterion_examples"),
    "task": ("finetune.loss", "finetune.label_smoothing"),
    "trials": ("plan.trial_examples", "compensate.method", "prune.recalibrate"),
}


@step(artifacts.SCORES, part="scores", together=True, keys=CRITERION_KEYS)
def scores(
    sensitivity: Sensitivity,
    model: nn.Module,
    calibration: DataSet,
    criterion: str | Criterion,
    plan_settings: PlanSection,
    task: Task,
    trials: Trials,
    execution: Execution,
) -> UnitScores:
    """Return the scores that rank: the scan's, or those of `plan.criterion`.

    Raises:
        DataError: No unit got a score.
    """
    if criterion == "reinit_drop":
        return scores_of(sensitivity)
    if criterion == COMPENSATED:
        found = trials.distances(sensitivity.unit_map, confidence=sensitivity.confidence)
    else:
        limit = plan_settings.criterion_examples
        found = _scored(sensitivity, model, calibration, criterion, limit, task, execution)
    is_blind = plan_settings.criterion == AUTO and found.units and not found.order
    if is_blind and criterion == SHALLOW and plan_settings.trial_examples > 0:
        # the network's own forward adds its branches, where block influence sees nothing
        found = trials.distances(sensitivity.unit_map, confidence=sensitivity.confidence)
    if found.units and not found.order and plan_settings.targets().keys() != {"remove"}:
        raise DataError(
            f"plan.criterion {found.criterion} scored no unit ({found.units[0].reason}); choose "
            "another one, such as removal_drop or reinit_drop, or give it more examples "
            "(plan.criterion_examples)."
        )
    return found


@step(
    artifacts.REFERENCE_SCORES,
    part="reference scores",
    together=True,
    keys={**CRITERION_KEYS, "plan_settings": ("plan.beside", "plan.beside_examples")},
)
def reference_scores(
    sensitivity: Sensitivity,
    model: nn.Module,
    calibration: DataSet,
    criterion: str | Criterion,
    plan_settings: PlanSection,
    task: Task,
    execution: Execution,
) -> ReferenceScores:
    """Return the scores of `plan.beside`, which the report shows."""
    ranks = ("reinit_drop", criterion)
    limit = plan_settings.beside_examples
    return ReferenceScores(
        criteria=tuple(
            _scored(sensitivity, model, calibration, name, limit, task, execution)
            for name in plan_settings.beside
            if name not in ranks
        )
    )


def _scored(
    sensitivity: Sensitivity,
    model: nn.Module,
    calibration: DataSet,
    criterion: str | Criterion,
    max_examples: int | None,
    task: Task,
    execution: Execution,
) -> UnitScores:
    return score_units(
        model,
        sensitivity.unit_map,
        execution.batches(calibration),
        criterion=criterion,
        confidence=sensitivity.confidence,
        seed=execution.seed,
        scorer=task.scorer,
        loss=task.loss,
        device=execution.device,
        max_examples=max_examples,
        ranks=execution.ranks,
        on_progress=execution.observer.progress,
    )
