"""Confirms a plan before anything is cut: every unit alone, then all prefixes of the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import nn

from srinit.distributed import ProcessGroup
from srinit.errors import PlanError
from srinit.pipeline import compensating, recovery
from srinit.pipeline.session import Session
from srinit.plan import PrunePlan, Removal
from srinit.trial import Trial, try_removals
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
    data, fit = recovery.trial_data(session)
    recover = recovery.few_steps(session, settings.trial_steps)
    costs: dict[str, Trial] = {}
    dropped: tuple[str, ...] = ()

    def tried(candidates: list[tuple[str, ...]]) -> list[Trial]:
        return list(
            try_removals(
                model,
                units,
                candidates,
                data,
                example_inputs=session.example_inputs,
                gone=gone,
                scorer=session.scorer,
                confidence=config.compare.confidence,
                method=compensating.method(session),
                fit=fit,
                teacher=session.model,
                measure=compensating.measure(session),
                recover=recover,
                half_width=settings.trial_half_width,
                max_drop=limit,
                ranks=ProcessGroup(),
                on_progress=session.observer.progress,
            )
        )

    while True:
        plan = _made(make, dropped, costs, limit)
        new = [name for name in plan.names if name not in gone]
        unknown = [name for name in new if name not in costs]
        costs |= dict(zip(unknown, tried([(name,) for name in unknown]), strict=True))
        over = tuple(
            name
            for name in new
            if limit is not None and costs[name].cost.low > limit and name not in settings.remove
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
        remove=tuple(_confirmed(removal, costs, together, steps) for removal in plan.remove),
        note=note,
    )


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
    if name not in together:  # it went in an earlier stage
        return removal
    alone, joint = costs[name], together[name]
    evidence = {
        "trial_cost": alone.cost.drop,
        "trial_low": alone.cost.low,
        "trial_high": alone.cost.high,
        "trial_cut": None if alone.cut is None else alone.cut.drop,
        "joint_cost": joint.cost.drop,
        "joint_low": joint.cost.low,
        "joint_high": joint.cost.high,
        "joint_cut": None if joint.cut is None else joint.cut.drop,
        "trial_steps": steps,
        "trial_examples": alone.cost.num_examples,
        "trial_cut_examples": None if alone.cut is None else alone.cut.num_examples,
        "joint_examples": joint.cost.num_examples,
        "joint_cut_examples": None if joint.cut is None else joint.cut.num_examples,
    }
    return replace(
        removal,
        evidence={**removal.evidence, **evidence},
        trial_after=alone.after,
        joint_after=joint.after,
    )
