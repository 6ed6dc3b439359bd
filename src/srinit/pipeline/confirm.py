"""Confirms a plan before anything is cut: every unit alone, then all prefixes of the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from srinit.comparison import Difference
from srinit.errors import PlanError
from srinit.pipeline import recovery
from srinit.pipeline.session import Session
from srinit.plan import PrunePlan
from srinit.sensitivity import Ranks
from srinit.trial import try_removals
from srinit.units import UnitMap

Make = Callable[[tuple[str, ...]], PrunePlan]
"""Makes the plan anew without some units."""


def confirmed(
    session: Session, model: nn.Module, units: UnitMap, make: Make, *, gone: tuple[str, ...] = ()
) -> PrunePlan:
    """Return the plan with what its units really cost; units that cost too much are left out.

    A unit is left out when the whole interval of its cost lies above `plan.trial_max_drop`;
    units that `plan.remove` names stay.

    Raises:
        PlanError: Without the units that cost too much the target cannot be met.
    """
    settings, config = session.config.plan, session.config
    limit = settings.trial_max_drop
    data = recovery.trial_data(session)
    recover = recovery.few_steps(session, settings.trial_steps)
    costs: dict[str, Difference] = {}
    dropped: tuple[str, ...] = ()

    def tried(candidates: list[tuple[str, ...]]) -> list[Difference]:
        trials = try_removals(
            model,
            units,
            candidates,
            data,
            example_inputs=session.example_inputs,
            gone=gone,
            scorer=session.scorer,
            confidence=config.compare.confidence,
            recover=recover,
            ranks=Ranks(),
            on_progress=session.observer.progress,
        )
        return [trial.cost for trial in trials]

    while True:
        plan = _made(make, dropped, costs, limit)
        new = [name for name in plan.names if name not in gone]
        unknown = [name for name in new if name not in costs]
        costs |= dict(zip(unknown, tried([(name,) for name in unknown]), strict=True))
        over = tuple(
            name
            for name in new
            if limit is not None and costs[name].low > limit and name not in settings.remove
        )
        if not over:
            break
        dropped += over
        session.observer.say(f"left out after a trial: {', '.join(_words(over, costs))}")
    joint = [costs[new[0]]] if new else []
    joint += tried([tuple(new[: count + 1]) for count in range(1, len(new))])
    together = dict(zip(new, joint, strict=True))
    steps = 0 if recover is None else settings.trial_steps
    note = f"left out after a trial: {', '.join(_words(dropped, costs))}" if dropped else plan.note
    return replace(
        plan,
        remove=tuple(
            replace(
                removal, evidence={**removal.evidence, **_evidence(name, costs, together, steps)}
            )
            for removal in plan.remove
            for name in (removal.unit.name,)
        ),
        note=note,
    )


def _made(
    make: Make, dropped: tuple[str, ...], costs: Mapping[str, Difference], limit: float | None
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


def _words(names: tuple[str, ...], costs: Mapping[str, Difference]) -> list[str]:
    return [
        f"{name} (costs {100 * (costs[name].drop or 0.0):.1f} points, at least "
        f"{100 * costs[name].low:.1f})"
        for name in names
    ]


def _evidence(
    name: str, costs: Mapping[str, Difference], together: Mapping[str, Difference], steps: int
) -> dict[str, Any]:
    if name not in together:  # it went in an earlier stage
        return {}
    alone, joint = costs[name], together[name]
    return {
        "trial_cost": alone.drop,
        "trial_low": alone.low,
        "trial_high": alone.high,
        "joint_cost": joint.drop,
        "joint_low": joint.low,
        "joint_high": joint.high,
        "trial_steps": steps,
        "trial_examples": alone.num_examples,
    }
