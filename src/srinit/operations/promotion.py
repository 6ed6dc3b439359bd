"""Promotion: a sealed run, judged again from its predictions, becomes champion of the registry."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from srinit import records
from srinit.comparison import Comparison, Shift, Site
from srinit.custody import judgement, overrides, readings
from srinit.custody.readings import Readings
from srinit.display import command
from srinit.errors import ConfigError, GateFailedError, PruneError, UnsafeError
from srinit.gates import GateResult, check_gates
from srinit.pipeline import cut, judge, moves, site, staged, track, versions
from srinit.pipeline.operate import opened
from srinit.pipeline.session import OUTCOME, Outcome, Session
from srinit.records import record
from srinit.registry import CHAMPION, Registry, Version
from srinit.store import sha256_bytes
from srinit.store.files import parse_npz
from srinit.store.seal import Seal


@record
class Promoted:
    """What `promote` did."""

    model: str
    registry: str
    version: int  # champion now
    replaced: int | None  # champion before; `rollback` returns to it
    gate: str  # "passed" or "overridden"
    already: bool = False  # it was champion before


def promote(session: Session, *, override: bool = False, reason: str = "") -> Promoted:
    """Return the promotion of a run's pruned network to champion.

    Everything is checked first: the hashes of the run, and that its gates were passed, derived
    again from its predictions and limits. What is registered are the bytes that were checked. The
    unpruned network becomes the first version, so that there is a way back from the beginning.
    Killed at any moment, the same command completes it.

    Raises:
        GateFailedError: A gate said no, and `override` is not given.
        UnsafeError: Nothing was judged, the judgement was moved, or the run is not sealed.
        IntegrityError: A file of the run was changed, or the judgement on record is not what its
            predictions and limits give.
        ConfigError: An override without a reason.
    """
    if override and not reason.strip():
        raise ConfigError('an override needs a reason, which goes on record: --reason "..."')
    seal = session.folder.checked()
    state = _judged(session, seal, override=override, reason=reason)
    with opened(session.path, session.config, create=True) as registry:
        if not override:
            moves.check_newest(session.path, registry)
        champion = registry.alias(CHAMPION)
        first, version = _registered(session, seal, registry, state, champion)
        expected = None if champion is None else champion.version
        if first is not None and champion is None:
            moves.promoted(session.folder, seal, registry, first, None)
            expected = first.version
        registry.set_candidate(version)
        if champion is not None and champion.version == version.version:
            moves.completed(session.folder, seal, registry, champion)
            return _told(registry, version, champion.replaced, already=True)
        moves.promoted(session.folder, seal, registry, version, expected, reason)
        return _told(registry, version, expected)


def _told(
    registry: Registry, version: Version, replaced: int | None, *, already: bool = False
) -> Promoted:
    return Promoted(
        model=registry.model,
        registry=registry.uri,
        version=version.version,
        replaced=replaced,
        gate=version.gate,
        already=already,
    )


def _judged(session: Session, seal: Seal, *, override: bool, reason: str) -> str:
    """Return "passed" or "overridden"; a refusal goes on record."""
    stage = cut.stage_folder(session).relative_to(session.path).as_posix()
    name = f"{stage}/gate.json"
    if name not in seal.digests:
        raise UnsafeError(
            f"{session.path} holds no judgement of its gates; {command('compare', session.path)} "
            "makes one."
        )
    gates = _judged_again(session, seal, stage)
    advice = 'If it must go live all the same: --override --reason "...", which is recorded.'
    problem: PruneError | None = None
    if not gates.gates:
        problem = UnsafeError(
            f"{session.path} is not promoted: it has no gates, so nothing was judged. {advice}"
        )
    elif not gates.passed:
        said = "; ".join(gate.sentence for gate in gates.failed)
        problem = GateFailedError(f"{session.path} is not promoted: {said}. {advice}")
    elif not _accepted(seal):
        problem = GateFailedError(
            f"{session.path} is not promoted: its stages ended because gates failed on validation "
            f"data. {advice}"
        )
    elif moved := _moved(session, seal, stage, gates):
        problem = UnsafeError(
            f"{session.path} is not promoted: its judgement was moved after it was known: {moved}. "
            f"{advice}"
        )
    if problem is None:
        return "passed"
    if override:
        return "overridden"
    digest = sha256_bytes(seal.read(name))
    session.folder.audit("promote", "refused", reason=str(problem), inputs={"gate.json": digest})
    raise problem


def _judged_again(session: Session, seal: Seal, stage: str) -> GateResult:
    """Return the judgement that predictions and limits give, if it is the one on record."""

    def read(cls: type[Any], file: str, schema: str) -> Any:
        name = f"{stage}/{file}"
        if name not in seal.digests:
            return None
        return records.from_json(cls, seal.read(name), schema=schema, where=name)

    recorded = read(Comparison, "comparison.json", judge.COMPARISON_SCHEMA)
    file = f"{stage}/predictions.npz"
    arrays = parse_npz(seal.read(file), seal.folder / file)
    terms = {**session.error_terms, "confidence": session.config.compare.confidence}
    again = judgement.compared_again(arrays, recorded, class_names=session.class_names, terms=terms)
    judgement.check_same(recorded, again, f"{seal.folder}/{stage}/comparison.json")
    shift = read(Shift, "shift.json", judge.SHIFT_SCHEMA)
    gates = check_gates(again, session.config.gates.limits(), shift=shift)
    if session.config.gates.site:
        on_site = read(Site, "site.json", site.SITE_SCHEMA)
        gates = judge.with_site(gates, site.judge(session, on_site) if on_site else None)
    kept = read(GateResult, "gate.json", judge.GATE_SCHEMA)
    judgement.check_same(kept, gates, f"{seal.folder}/{stage}/gate.json")
    return gates


def _accepted(seal: Seal) -> bool:
    """Return whether the stage that is delivered passed on validation data."""
    if OUTCOME not in seal.digests:
        return True
    schema = staged.OUTCOME_SCHEMA
    return records.from_json(Outcome, seal.read(OUTCOME), schema=schema, where=OUTCOME).accepted


def _moved(session: Session, seal: Seal, stage: str, gates: GateResult) -> str:
    """Return how limits, data or model were changed once their judgement was known."""
    content = seal.read(overrides.FILE) if overrides.FILE in seal.digests else None
    changes = overrides.read(content, overrides.FILE)
    found = [each.words() for each in changes if each.judged and each.moves_judgement]
    name = f"{stage}/{readings.FILE}"
    if name in seal.digests:
        earlier = records.from_json(
            Readings, seal.read(name), schema=readings.SCHEMA, where=name
        ).earlier
        own = {g.name: g.limit for g in gates.gates}
        own[readings.CONFIDENCE] = session.config.compare.confidence
        for reading in earlier:
            if reading.passed is False and (wide := readings.wider(own, reading.limits)):
                found.append(
                    f"{reading.run} read the same test data and failed; this run allows more "
                    f"({', '.join(wide)})"
                )
    return "; ".join(dict.fromkeys(found))


def _registered(
    session: Session, seal: Seal, registry: Registry, state: str, champion: Version | None
) -> tuple[Version | None, Version]:
    """Return the version of the unpruned network, if it is the first way back, and the pruned."""
    place, first = str(session.path.absolute()), None
    mlflow_run = track.log_run(session, registry)
    with tempfile.TemporaryDirectory(prefix="srinit-") as name:
        if champion is None:
            session.observer.say("the first version is the unpruned network: the way back")
            folder = Path(name) / "unpruned"
            digest = versions.unpruned_version(session, folder)
            first = registry.register(
                folder, digest, mlflow_run=mlflow_run, run=place, gate="unpruned",
                weights=versions.weights_of(folder),
            )  # fmt: skip
        folder = Path(name) / "pruned"
        digest = versions.pruned_version(session, seal, folder)
        session.observer.progress(1, 2)
        version = registry.register(
            folder, digest, mlflow_run=mlflow_run, run=place, gate=state,
            weights=versions.weights_of(folder),
        )  # fmt: skip
    return first, version
