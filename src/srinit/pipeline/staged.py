"""Pruning in stages: cut a part, recover, compare, gate; scan again, and go on.

Every stage is measured on the network that the stage before it left, and written down in the
names of the unpruned network, so that its recipe rebuilds it from there. A stage is judged on
validation data; test data is read once, for the stage that is delivered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from srinit.comparison import Comparison, compare_outcomes
from srinit.criteria import UnitScores
from srinit.errors import PlanError
from srinit.evaluate import Outcomes
from srinit.gates import GateResult, check_feasible, check_gates
from srinit.pipeline import cut, look, planning, plans, shared
from srinit.pipeline.judge import COMPARISON_SCHEMA, GATE_SCHEMA
from srinit.pipeline.session import OUTCOME, Outcome, Session
from srinit.plan import Prefix, PrunePlan
from srinit.sensitivity import Sensitivity
from srinit.surgery import carry_back

OUTCOME_SCHEMA = "srinit.outcome/1"
# Gates that a part of the way to the target cannot hold, or that validation data cannot show.
FINAL_ONLY = ("max_latency_ratio", "max_params_ratio", "max_flops_ratio", "max_shift_drop")


class StageSession(Session):
    """A session that looks at the network of an earlier stage, and keeps what it sees apart."""

    def __init__(self, whole: Session, path: Path, model: nn.Module) -> None:
        units = whole.config.units.model_copy(update={"keep": []})  # other names; see `_named`
        config = whole.config.model_copy(update={"units": units})
        super().__init__(config, whole.folder, whole.observer)
        self._place = path
        self.__dict__ |= {"model": model, "data": whole.data}

    @property
    def path(self) -> Path:
        """The folder of the stage."""
        return self._place


def carry_out(session: Session) -> Outcome:
    """Return how the stages ended; the network that is delivered is that of the last in `stages/`.

    A stage whose gates fail on validation data is moved to `rejected/`, and the one before it is
    delivered, as it was. If the first fails it stays, and the run does not pass.
    """
    path = session.path / OUTCOME
    if path.is_file():
        found = session.folder.read_record(Outcome, path, schema=OUTCOME_SCHEMA)
    else:
        found = _stages(session)
        session.folder.audit("stages", f"stage {found.delivered} delivered", reason=found.reason)
        session.folder.write_record(path, found, schema=OUTCOME_SCHEMA)
    _put_aside(session, found)
    session.stage = found.delivered
    return found


def outcome(session: Session) -> Outcome:
    """Return how the stages ended; with one stage there is nothing to choose."""
    if not session.config.prune.staged:
        return Outcome(delivered=1, accepted=True, reason="")
    return session.folder.read_record(Outcome, session.path / OUTCOME, schema=OUTCOME_SCHEMA)


def _stages(session: Session) -> Outcome:
    number = 1
    while True:
        session.stage = number
        title = f" of {session.config.prune.stages}" if not session.config.prune.step.given else ""
        session.observer.stage(f"stage {number}{title}: scan and plan")
        try:
            made = plan(session)
        except PlanError as error:
            if number == 1:
                raise
            return Outcome(delivered=number - 1, accepted=True, reason=str(error))
        if made is None:
            return Outcome(delivered=number - 1, accepted=True, reason="")
        session.observer.stage(f"stage {number}{title}: cut and recover")
        cut.tune(session)
        result = judge(session)
        if not result.passed:
            failed = "; ".join(gate.sentence for gate in result.failed)
            reason = f"stage {number} failed on validation data: {failed}"
            session.observer.say(reason)
            return Outcome(
                delivered=max(number - 1, 1), accepted=number > 1, reason=reason, tried=number
            )
        number += 1


def _put_aside(session: Session, found: Outcome) -> None:
    """Move what came after the delivered stage out of `stages/`."""
    folder = cut.stage_folder(session, found.delivered + 1)
    if folder.is_dir():
        target = session.path / "rejected" / folder.name
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)
    session.folder.moved()


def plan(session: Session) -> PrunePlan | None:
    """Return the plan of the stage at work, kept in its folder; None if the target is reached.

    It removes what the stages before removed, and a part of what is left to the target.
    """
    path = cut.stage_folder(session) / "plan.json"
    if path.is_file():
        return plans.read(session.folder, path)
    before = _before(session)
    if before is None:
        full = cut.plan(session)
    else:
        sensitivity, scores = _looked_again(session, before)
        full = planning.make(session, cut.uncut, sensitivity, scores, gone=before.names)
    gone = before.names if before is not None else ()
    left = len(full.remove) - len(gone)
    if left <= 0 and before is not None:
        return None
    taken = len(gone) + share(
        full.prefixes[len(gone) : len(full.remove) + 1], full.prefixes[0], session
    )
    made = replace(
        full,
        remove=_evidence_kept(full, before)[:taken],
        note=f"stage {session.stage}; the whole target would take {len(full.remove)} units",
    )
    session.folder.audit("plan", f"stage {session.stage}: remove {len(made.names)} units")
    plans.write(session.folder, path, made)
    return made


def share(ahead: tuple[Prefix, ...], whole: Prefix, session: Session) -> int:
    """Return how many of the units that are left this stage removes, at least one.

    Args:
        ahead: The network as it is, and after each removal that is left to the target.
        whole: The unpruned network.
        session: Its config says how large a stage is.
    """
    left, settings = len(ahead) - 1, session.config.prune
    if left <= 0:
        return 0
    if not settings.step.given:
        return math.ceil(left / max(settings.stages - session.stage + 1, 1))
    if settings.step.units is not None:
        return min(settings.step.units, left)
    name = "params" if settings.step.params is not None else "flops"
    wanted = (settings.step.params or settings.step.flops or 0.0) * getattr(whole, name)
    for count in range(1, left + 1):
        if getattr(ahead[0], name) - getattr(ahead[count], name) >= wanted:
            return count
    return left


def judge(session: Session) -> GateResult:
    """Return what the gates say of the stage at work, on validation data."""
    folder = cut.stage_folder(session)
    path = folder / "validation_gate.json"
    if path.is_file():
        return session.folder.read_record(GateResult, path, schema=GATE_SCHEMA)
    comparison = _compared(session, cut.tune(session))
    result = check_gates(comparison, limits(session))
    session.folder.write_record(folder / "validation.json", comparison, schema=COMPARISON_SCHEMA)
    failed = "; ".join(gate.sentence for gate in result.failed)
    decision = f"stage {session.stage} {'passed' if result.passed else 'failed'} on validation"
    session.folder.audit("gate", decision, reason=failed)
    session.folder.write_record(path, result, schema=GATE_SCHEMA)
    return result


def limits(session: Session) -> dict[str, Any]:
    """Return the gates that every stage must hold."""
    given = session.config.gates.limits()
    return {name: limit for name, limit in given.items() if name not in FINAL_ONLY}


def check_ahead(session: Session) -> None:
    """Raise `ConfigError` where a gate can never pass on so few validation examples."""
    check_feasible(
        limits(session),
        session.counts("validation"),
        **session.error_terms,
        confidence=session.config.compare.confidence,
    )


def _compared(session: Session, tuned: nn.Module) -> Comparison:
    data, config = session.split("validation"), session.config
    arrays = session.folder.read_npz(session.path / "baseline" / "predictions.npz")
    return compare_outcomes(
        Outcomes(**arrays),
        shared.outcomes(session, tuned, data),
        class_names=session.class_names,
        **session.error_terms,
        confidence=config.compare.confidence,
        data=config.data.validation or config.data.source or "",
        data_hash=data.data_hash,
    )


# names of two networks


def _before(session: Session) -> PrunePlan | None:
    """Return the plan of the stage before."""
    if session.stage == 1:
        return None
    folder = cut.stage_folder(session, session.stage - 1)
    return plans.read(session.folder, folder / "plan.json")


def _looked_again(session: Session, before: PrunePlan) -> tuple[Sensitivity, UnitScores]:
    """Return scan and scores of the stage before's network, in names of the unpruned one."""
    pruned = cut.load(session, cut.stage_folder(session, session.stage - 1)).eval()
    _, names = carry_back(
        session.model,
        pruned,
        [removal.unit for removal in before.remove],
        example_inputs=session.example_inputs,
    )
    stage = StageSession(session, cut.stage_folder(session), pruned)
    first = look.scan(session)
    scanned, scored = look.scan(stage), look.scores(stage)
    return (
        replace(
            scanned,
            units=tuple(_named(scanned.units, names, first.units, before.names)),
            unit_map=first.unit_map,
        ),
        replace(
            scored,
            units=tuple(_named(scored.units, names, look.scores(session).units, before.names)),
        ),
    )


def _named(
    found: Iterable[Any], names: Mapping[str, str], first: Iterable[Any], gone: Iterable[str]
) -> list[Any]:
    """Return records in names of the unpruned network, with those of units that are gone."""
    kept = [record for record in first if record.unit in set(gone)]
    again = [replace(r, unit=names[r.unit]) for r in found if r.unit in names]
    return [*kept, *again]


def _evidence_kept(full: PrunePlan, before: PrunePlan | None) -> tuple[Any, ...]:
    """Return the removals, those of earlier stages with the evidence that they went on."""
    known = {} if before is None else {removal.unit.name: removal for removal in before.remove}
    return tuple(known.get(removal.unit.name, removal) for removal in full.remove)
