"""A ranking by trials: how far answers are without each unit, once what is left is compensated."""

from __future__ import annotations

import math

from srinit.config.stages import COMPENSATED
from srinit.criteria import UnitScore, UnitScores
from srinit.distributed import ProcessGroup
from srinit.errors import DataError
from srinit.pipeline import compensating, recovery
from srinit.pipeline.session import Session
from srinit.trial import removal_distances
from srinit.units import UnitMap


def scored(session: Session, units: UnitMap) -> UnitScores:
    """Return the units' scores by `compensated_distance`; all processes of a run must call it.

    Raises:
        DataError: Trials are switched off.
    """
    if session.config.plan.trial_examples == 0:
        raise DataError(
            f"plan.criterion {COMPENSATED} ranks by trials, and plan.trial_examples is 0; give it "
            "some hundred examples."
        )
    data, fit = recovery.trial_data(session)
    found = removal_distances(
        session.model,
        units,
        data,
        example_inputs=session.example_inputs,
        scorer=session.scorer,
        method=compensating.method(session),
        fit=fit,
        measure=compensating.measure(session),
        ranks=ProcessGroup(),
        on_progress=session.observer.progress,
    )
    return UnitScores(
        criterion=COMPENSATED,
        units=tuple(_score(name, distance) for name, distance in found.items()),
        is_drop=False,
        num_examples=sum(len(target) for _, target in data),
        seed=session.config.seed,
        confidence=session.config.scan.confidence,
        baseline_score=None,
    )


def _score(name: str, distance: float) -> UnitScore:
    if math.isfinite(distance):
        return UnitScore(unit=name, score=distance)
    return UnitScore(unit=name, score=None, reason="its answers are not finite")
