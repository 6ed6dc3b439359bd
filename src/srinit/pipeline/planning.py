"""Makes the plan of a run: a ranking, the costs of its prefixes, and trials of what would go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from srinit.criteria import UnitScores
from srinit.curve import PrefixMeter
from srinit.errors import PlanError
from srinit.pipeline import confirm, processes
from srinit.pipeline.session import Session
from srinit.plan import Prefix, PrunePlan, make_plan
from srinit.sensitivity import Ranks, Sensitivity
from srinit.units import UnitMap, covered, matching


def make(
    session: Session,
    uncut: Callable[[Session], nn.Module],
    sensitivity: Sensitivity,
    scores: UnitScores,
    *,
    gone: tuple[str, ...] = (),
) -> PrunePlan:
    """Return a plan made anew; prefixes of its ranking near the target are built and measured.

    Args:
        session: The run.
        uncut: Gives the network that the stage at work is cut from.
        sensitivity: The scan it rests on, in names of the unpruned network.
        scores: What ranks.
        gone: Units that earlier stages removed; they come first.

    All processes of a run must call it: rank 0 times networks alone, and trials are shared.
    """
    settings = session.config.plan
    if not sensitivity.unit_map.removable:
        hint = sensitivity.unit_map.note or (
            "networks without shortcuts (VGG) have units with units.include_plain: true."
        )
        raise PlanError(f"the network has no unit that can be removed: {hint}")
    options: dict[str, Any] = {
        **settings.targets(),
        "scores": scores,
        "keep": _kept(session, sensitivity.unit_map),
        "rule": settings.rule,
    }
    if gone:
        named = tuple(name for name in options.get("remove", ()) if name not in gone)
        options["remove"] = (*gone, *named)

    meter = PrefixMeter(
        session.model,
        sensitivity.unit_map,
        session.example_inputs,
        batch_sizes=session.config.compare.latency_batches,
    )

    def made(left_out: tuple[str, ...]) -> PrunePlan:
        given = {**options, "keep": (*options["keep"], *left_out)}
        free = {k: v for k, v in given.items() if k not in ("params", "flops", "latency")}

        def by(prefixes: tuple[Prefix, ...]) -> PrunePlan:
            batch = settings.latency_batch
            return make_plan(sensitivity, **given, latency_batch=batch, prefixes=prefixes)

        return by(
            meter.prefixes(
                make_plan(sensitivity, **free).ranking,
                wanted=lambda prefixes: _near(by, prefixes),
                on_progress=session.observer.progress,
            )
        )

    def shared(left_out: tuple[str, ...]) -> PrunePlan:
        if Ranks().count == 1:
            return made(left_out)
        text = processes.text_of_first(lambda: made(left_out).to_json())
        return PrunePlan.from_json(text, where="the plan of rank 0")

    if settings.trial_examples == 0:
        return shared(())
    return confirm.confirmed(session, uncut(session), sensitivity.unit_map, shared, gone=gone)


def _near(
    by: Callable[[tuple[Prefix, ...]], PrunePlan], prefixes: tuple[Prefix, ...]
) -> tuple[int, ...]:
    """Return the prefix that a plan would take, where latency decides also the one before it."""
    try:
        found = by(prefixes)
    except PlanError:
        return ()  # said again, and for good, once all is measured
    count = len(found.remove)
    return (count - 1, count) if "latency" in found.target and count else (count,)


def _kept(session: Session, units: UnitMap) -> tuple[str, ...]:
    """Return the protected units, also those that are protected only since the scan."""
    named = dict(session.model.named_modules())
    protected = matching(session.config.units.keep, named, argument="units.keep")
    return (
        *(unit.name for unit in units.locked if unit.reason == "kept"),
        *(
            unit.name
            for unit in units.removable
            if any(covered(part, protected) for part in (unit.name, *unit.also))
        ),
    )
