"""Pruning in rounds: cut a part, recover, compare, gate; scan again, and go on.

Every round is the same table of steps under another prefix. It is measured on the network that the
round before left, and written down in the names of the unpruned network, so that its recipe
rebuilds it from there. A round is judged on validation data; test data is read once, for the round
that is delivered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from srinit.config.sections import PruneSection
from srinit.criteria import UnitScores
from srinit.errors import PlanError
from srinit.pipeline.runner import Runner
from srinit.plan import Prefix, PrunePlan
from srinit.runs import artifacts
from srinit.runs.files import REJECTED
from srinit.runs.records import RoundsOutcome
from srinit.sensitivity import Sensitivity
from srinit.steps.pruning import Before
from srinit.surgery import expand_back


def carry_out(runner: Runner) -> RoundsOutcome:
    """Return how the rounds ended; the network that is delivered is that of the last in `rounds/`.

    A round whose gates fail on validation data is moved to `rejected/`, and the one before it is
    delivered, as it was. If the first fails it stays, and the run does not pass. From then on the
    runner speaks of the round that is delivered.
    """
    found = runner.files.get(artifacts.OUTCOME)
    if found is None:
        found = _rounds(runner)
        runner.folder.audit("rounds", f"round {found.delivered} delivered", reason=found.reason)
        runner.files.write(artifacts.OUTCOME, found)
    _put_aside(runner, found)
    runner.enter(found.delivered)
    return found


def _rounds(runner: Runner) -> RoundsOutcome:
    number = 1
    while True:
        at_work = runner.in_round(number)
        settings = runner.config.prune
        title = f"round {number}"
        if not settings.step.given:
            is_last = number > settings.rounds  # a look whether the target is reached
            title = "after the last round" if is_last else f"{title} of {settings.rounds}"
        runner.observer.step(f"{title}: scan and plan")
        try:
            made = planned(at_work)
        except PlanError as error:
            if number == 1:
                raise
            return RoundsOutcome(delivered=number - 1, accepted=True, reason=str(error))
        if made is None:
            return RoundsOutcome(delivered=number - 1, accepted=True, reason="")
        runner.observer.step(f"{title}: cut and recover")
        at_work.get(artifacts.TUNE_LOG)
        result = at_work.get(artifacts.VALIDATION_GATES)
        if not result.passed:
            failed = "; ".join(gate.sentence for gate in result.failed)
            reason = f"round {number} failed on validation data: {failed}"
            runner.observer.say(reason)
            return RoundsOutcome(
                delivered=max(number - 1, 1), accepted=number > 1, reason=reason, tried=number
            )
        number += 1


def _put_aside(runner: Runner, found: RoundsOutcome) -> None:
    """Move what came after the delivered round out of `rounds/`."""
    folder = runner.in_round(found.delivered + 1).files.round_folder
    if folder.is_dir():
        target = runner.path / REJECTED / folder.name
        runner.folder.refuse_links(folder, target)
        place = f"{folder.relative_to(runner.path).as_posix()}/"
        runner.folder.forget(lambda name: name.startswith(place))
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)
    runner.folder.cover()


def planned(runner: Runner) -> PrunePlan | None:
    """Return the plan of the round at work, kept in its folder; None if the target is reached.

    It removes what the rounds before removed, and a part of what is left to the target.
    """
    own = runner.files.get(artifacts.ROUND_PLAN)
    if own is not None:
        return own
    earlier: Before = runner.value("before")
    gone = earlier.gone
    if earlier.plan is None:
        full = runner.get(artifacts.PLAN)
    else:
        sensitivity, scores = _looked_again(runner, earlier.plan)
        planner = runner.resources.planner
        full = planner.made(earlier.whole, sensitivity, scores, gone=gone)
    left, number = len(full.remove) - len(gone), runner.files.round_number
    if left <= 0 and earlier.plan is not None:
        return None
    ahead = full.prefixes[len(gone) : len(full.remove) + 1]
    taken = len(gone) + share(ahead, full.prefixes[0], runner.config.prune, number)
    made = replace(
        full,
        remove=_evidence_kept(full, earlier.plan)[:taken],
        note=f"round {number}; the whole target would take {len(full.remove)} units",
    )
    runner.folder.audit("plan", f"round {number}: remove {len(made.names)} units")
    runner.files.write(artifacts.ROUND_PLAN, made)
    return made


def share(ahead: tuple[Prefix, ...], whole: Prefix, settings: PruneSection, number: int) -> int:
    """Return how many of the units that are left this round removes, at least one.

    Args:
        ahead: The network as it is, and after each removal that is left to the target.
        whole: The unpruned network.
        settings: Say how large a round is.
        number: Of the round, from 1.
    """
    left = len(ahead) - 1
    if left <= 0:
        return 0
    if not settings.step.given:
        return math.ceil(left / max(settings.rounds - number + 1, 1))
    if settings.step.units is not None:
        return min(settings.step.units, left)
    name = "params" if settings.step.params is not None else "flops"
    wanted = (settings.step.params or settings.step.flops or 0.0) * getattr(whole, name)
    for count in range(1, left + 1):
        if getattr(ahead[0], name) - getattr(ahead[count], name) >= wanted:
            return count
    return left


def _looked_again(runner: Runner, before: PrunePlan) -> tuple[Sensitivity, UnitScores]:
    """Return scan and scores of the round before's network, in names of the unpruned one."""
    pruned = runner.in_round(runner.files.round_number - 1).get(artifacts.TUNED)
    _, names = expand_back(
        runner.resources.model,
        pruned,
        [removal.unit for removal in before.remove],
        example_inputs=runner.resources.example_inputs,
    )
    again = runner.looking_at(pruned)
    first, first_scores = runner.get(artifacts.SENSITIVITY), runner.get(artifacts.SCORES)
    scanned, scored = again.get(artifacts.SENSITIVITY), again.get(artifacts.SCORES)
    units = tuple(_named(scanned.units, names, first.units, before.names))
    return (
        replace(scanned, units=units, unit_map=first.unit_map),
        replace(scored, units=tuple(_named(scored.units, names, first_scores.units, before.names))),
    )


def _named(
    found: Iterable[Any], names: Mapping[str, str], first: Iterable[Any], gone: Iterable[str]
) -> list[Any]:
    """Return records in names of the unpruned network, with those of units that are gone."""
    kept = [record for record in first if record.unit in set(gone)]
    again = [replace(r, unit=names[r.unit]) for r in found if r.unit in names]
    return [*kept, *again]


def _evidence_kept(full: PrunePlan, before: PrunePlan | None) -> tuple[Any, ...]:
    """Return the removals, those of earlier rounds with the evidence that they went on."""
    known = {} if before is None else {removal.unit.name: removal for removal in before.remove}
    return tuple(known.get(removal.unit.name, removal) for removal in full.remove)
