"""Removals tried on copies before anything is cut: every unit alone, then prefixes of the plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import nn

from srinit.config.sections import PlanSection
from srinit.config.steps import COMPENSATED
from srinit.criteria import UnitScore, UnitScores
from srinit.errors import DataError, PlanError
from srinit.plan import PrunePlan, Removal, TrialEvidence
from srinit.records import Interval
from srinit.sources import DataSet
from srinit.steps.compensating import Compensator
from srinit.steps.recovery import Recovery
from srinit.trial import Trial, removal_distances, try_removals
from srinit.units import UnitMap

TRIAL_FIT = 32  # examples that a trial's compensation is fitted on
Names = tuple[str, ...]
Make = Callable[[tuple[str, ...]], PrunePlan]
"""Makes the plan anew without some units."""


@dataclass(frozen=True)
class Trials:
    """Removals tried on copies of a network, as the run would carry them out."""

    model: nn.Module  # the unpruned network
    calibration: DataSet
    example_inputs: Any
    settings: PlanSection
    compensator: Compensator
    recovery: Recovery

    @cached_property
    def data(self) -> tuple[list[tuple[Any, Any]], list[Any]]:
        """Calibration batches on which removals are tried, and inputs to compensate them by.

        Both are chosen by content, and they are different examples; of few, a third is for the
        latter.
        """
        calibration, batches = self.calibration, self.compensator.execution.batches
        tried, fitted = self.settings.trial_examples, TRIAL_FIT
        if self.compensator.settings.method == "none":
            fitted = 0
        if tried + fitted > len(calibration):
            fitted = min(fitted, len(calibration) // 3)
            tried = min(tried, len(calibration) - fitted)
        chosen = calibration.by_content(tried + fitted)
        places = range(len(chosen))
        fit = batches(chosen.subset(places[tried:])) if fitted else ()
        return list(batches(chosen.subset(places[:tried]))), [inputs for inputs, _ in fit]

    def distances(self, units: UnitMap, *, confidence: float) -> UnitScores:
        """Return the units' scores by `compensated_distance`.

        All processes of a run must call it.

        Raises:
            DataError: Trials are switched off.
        """
        if self.settings.trial_examples == 0:
            raise DataError(
                f"plan.criterion {COMPENSATED} ranks by trials, and plan.trial_examples is 0; "
                "give it some hundred examples."
            )
        data, fit = self.data
        execution = self.compensator.execution
        found = removal_distances(
            self.model,
            units,
            data,
            example_inputs=self.example_inputs,
            scorer=self.recovery.task.scorer,
            method=self.compensator.method,
            fit=fit,
            measure=self.compensator.measure,
            ranks=execution.ranks,
            on_progress=execution.observer.progress,
        )
        return UnitScores(
            criterion=COMPENSATED,
            units=tuple(_score(name, distance) for name, distance in found.items()),
            is_drop=False,
            num_examples=sum(len(target) for _, target in data),
            seed=execution.seed,
            confidence=confidence,
            baseline_score=None,
        )

    def tried(
        self, model: nn.Module, units: UnitMap, candidates: list[tuple[str, ...]], gone: Names
    ) -> list[Trial]:
        """Return what each set of units costs, removed on a copy of `model`."""
        data, fit = self.data
        execution, task = self.compensator.execution, self.recovery.task
        return list(
            try_removals(
                model,
                units,
                candidates,
                data,
                example_inputs=self.example_inputs,
                gone=gone,
                scorer=task.scorer,
                confidence=task.confidence,
                method=self.compensator.method,
                fit=fit,
                teacher=self.model,
                measure=self.compensator.measure,
                recover=self.recovery.few_steps(self.settings.trial_steps),
                half_width=self.settings.trial_half_width,
                max_drop=self.settings.trial_max_drop,
                ranks=execution.ranks,
                on_progress=execution.observer.progress,
            )
        )

    def confirmed(
        self, model: nn.Module, units: UnitMap, make: Make, *, gone: Names = ()
    ) -> PrunePlan:
        """Return the plan with what its units really cost; units that cost too much are left out.

        A unit is left out when the whole interval of its cost lies above `plan.trial_max_drop`;
        units that `plan.remove` names stay.

        Args:
            model: The network that the round at work is cut from.
            units: Its units, in names of the unpruned network.
            make: Makes the plan without some units.
            gone: Units that earlier rounds removed.

        Raises:
            PlanError: Without the units that cost too much the target cannot be met.
        """
        settings, limit = self.settings, self.settings.trial_max_drop
        costs: dict[str, Trial] = {}
        dropped: Names = ()
        while True:
            plan = _made(make, dropped, costs, limit)
            new = [name for name in plan.names if name not in gone]
            unknown = [name for name in new if name not in costs]
            alone = self.tried(model, units, [(name,) for name in unknown], gone)
            costs |= dict(zip(unknown, alone, strict=True))
            over = tuple(
                name
                for name in new
                if limit is not None
                and costs[name].cost.low > limit
                and name not in settings.remove
            )
            if not over:
                break
            dropped += over
            self.compensator.execution.observer.say(
                f"left out after a trial: {', '.join(_words(over, costs))}"
            )
        joint = [costs[new[0]]] if new else []
        sets = [tuple(new[: count + 1]) for count in range(1, len(new))]
        joint += self.tried(model, units, sets, gone)
        together = dict(zip(new, joint, strict=True))
        is_trained = self.recovery.few_steps(settings.trial_steps) is not None
        steps = settings.trial_steps if is_trained else 0
        note = f"left out after a trial: {', '.join(_words(dropped, costs))}"
        return replace(
            plan,
            remove=tuple(_confirmed(removal, costs, together, steps) for removal in plan.remove),
            note=note if dropped else plan.note,
        )


def _score(name: str, distance: float) -> UnitScore:
    if math.isfinite(distance):
        return UnitScore(unit=name, score=distance)
    return UnitScore(unit=name, score=None, reason="its answers are not finite")


def _made(
    make: Make, dropped: tuple[str, ...], costs: Mapping[str, Trial], limit: float | None
) -> PrunePlan:
    try:
        return make(dropped)
    except PlanError as error:
        if not dropped:
            raise
        raise PlanError(
            f"{error} Left out because their trial removal costs more than "
            f"plan.trial_max_drop={limit:g}: {', '.join(_words(dropped, costs))}."
        ) from None


def _words(names: tuple[str, ...], costs: Mapping[str, Trial]) -> list[str]:
    return [
        f"{name} (costs {100 * (costs[name].cost.drop or 0.0):.1f} points, at least "
        f"{100 * costs[name].cost.low:.1f})"
        for name in names
    ]


def _confirmed(
    removal: Removal, costs: Mapping[str, Trial], together: Mapping[str, Trial], steps: int
) -> Removal:
    """Return a removal with the evidence of its trials."""
    name = removal.unit.name
    if name not in together:  # it went in an earlier round
        return removal
    evidence = replace(
        removal.evidence,
        alone=_evidence(costs[name], steps),
        joint=_evidence(together[name], steps),
    )
    return replace(removal, evidence=evidence)


def _evidence(trial: Trial, steps: int) -> TrialEvidence:
    cost = trial.cost
    return TrialEvidence(
        cost=Interval(value=cost.value, low=cost.low, high=cost.high, confidence=cost.confidence),
        cut=None if trial.cut is None else trial.cut.drop,
        after=trial.after,
        steps=steps,
        num_examples=cost.num_examples,
        cut_examples=None if trial.cut is None else trial.cut.num_examples,
    )
