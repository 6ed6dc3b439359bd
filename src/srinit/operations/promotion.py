"""Promotion: a sealed run, judged again from its predictions, becomes champion of the registry."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TypeVar

from srinit.custody import judgement, overrides, readings
from srinit.display import command
from srinit.errors import (
    ConfigError,
    GateFailedError,
    IntegrityError,
    PruneError,
    UnsafeError,
)
from srinit.gates import GateResult, check_gates
from srinit.operations import moves, versions
from srinit.pipeline import track
from srinit.pipeline.registries import opened
from srinit.pipeline.runner import Runner
from srinit.records import record
from srinit.registry import CHAMPION, Registry, Version
from srinit.runs import Artifact, artifacts
from srinit.runs.kinds import Record
from srinit.steps import field_data
from srinit.store import sha256_bytes
from srinit.store.files import parse_npz
from srinit.store.seal import Seal

T = TypeVar("T")


@record
class Promoted:
    """What `promote` did."""

    model: str
    registry: str
    version: int  # champion now
    replaced: int | None  # champion before; `rollback` returns to it
    gate: str  # "passed" or "overridden"
    already: bool = False  # it was champion before


def promote(runner: Runner, *, override: bool = False, reason: str = "") -> Promoted:
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
    seal = runner.folder.checked()
    state = _judged(runner, seal, override=override, reason=reason)
    with opened(runner.path, runner.config, create=True) as registry:
        if not override:
            moves.check_newest(runner.path, registry)
        champion = registry.alias(CHAMPION)
        first, version = _registered(runner, seal, registry, state, champion)
        expected = None if champion is None else champion.version
        if first is not None and champion is None:
            moves.promoted(runner.folder, seal, registry, first, None)
            expected = first.version
        registry.set_candidate(version)
        if champion is not None and champion.version == version.version:
            moves.completed(runner.folder, seal, registry, champion)
            return _told(registry, version, champion.replaced, already=True)
        moves.promoted(runner.folder, seal, registry, version, expected, reason)
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


def _judged(runner: Runner, seal: Seal, *, override: bool, reason: str) -> str:
    """Return "passed" or "overridden"; a refusal goes on record."""
    name = runner.files.name(artifacts.GATES)
    if name not in seal.digests:
        raise UnsafeError(
            f"{runner.path} holds no judgement of its gates; {command('compare', runner.path)} "
            "makes one."
        )
    gates = _judged_again(runner, seal)
    advice = 'If it must go live all the same: --override --reason "...", which is recorded.'
    problem: PruneError | None = None
    if not gates.gates:
        problem = UnsafeError(
            f"{runner.path} is not promoted: it has no gates, so nothing was judged. {advice}"
        )
    elif not gates.passed:
        said = "; ".join(gate.sentence for gate in gates.failed)
        problem = GateFailedError(f"{runner.path} is not promoted: {said}. {advice}")
    elif not _accepted(runner, seal):
        problem = GateFailedError(
            f"{runner.path} is not promoted: its rounds ended because gates failed on validation "
            f"data. {advice}"
        )
    elif moved := _moved(runner, seal, gates):
        problem = UnsafeError(
            f"{runner.path} is not promoted: its judgement was moved after it was known: {moved}. "
            f"{advice}"
        )
    if problem is None:
        return "passed"
    if override:
        return "overridden"
    digest = sha256_bytes(seal.read(name))
    runner.folder.audit("promote", "refused", reason=str(problem), inputs={"gate.json": digest})
    raise problem


def _sealed(runner: Runner, seal: Seal, artifact: Artifact[T]) -> T | None:
    """Return the record that was sealed; None where there is none."""
    name, kind = runner.files.name(artifact), artifact.kind
    assert isinstance(kind, Record)
    if name not in seal.digests:
        return None
    found: T = kind.parse(seal.read(name), name)
    return found


def _judged_again(runner: Runner, seal: Seal) -> GateResult:
    """Return the judgement that predictions and limits give, if it is the one on record."""
    config, task = runner.config, runner.resources.task
    recorded = _sealed(runner, seal, artifacts.COMPARISON)
    if recorded is None:
        raise IntegrityError(f"{runner.path} holds gates of a comparison that is not there.")
    file = runner.files.name(artifacts.PREDICTIONS)
    arrays = parse_npz(seal.read(file), seal.folder / file)
    terms = {**task.error_terms, "confidence": task.confidence}
    texts = recorded.perplexity is not None
    again = judgement.compared_again(
        arrays, recorded, class_names=task.class_names, terms=terms,
        documents=runner.resources.split("test").documents if texts else None,
    )  # fmt: skip
    place = seal.folder
    judgement.check_same(recorded, again, f"{place}/{runner.files.name(artifacts.COMPARISON)}")
    shift = _sealed(runner, seal, artifacts.SHIFT)
    gates = check_gates(again, config.gates.limits(), shift=shift)
    if config.gates.site:
        on_site = _sealed(runner, seal, artifacts.SITE)
        gates = field_data.with_site(
            gates, field_data.judge(on_site, config.gates) if on_site else None
        )
    kept = _sealed(runner, seal, artifacts.GATES)
    judgement.check_same(kept, gates, f"{place}/{runner.files.name(artifacts.GATES)}")
    return gates


def _accepted(runner: Runner, seal: Seal) -> bool:
    """Return whether the round that is delivered passed on validation data."""
    outcome = _sealed(runner, seal, artifacts.OUTCOME)
    return outcome is None or outcome.accepted


def _moved(runner: Runner, seal: Seal, gates: GateResult) -> str:
    """Return how limits, data or model were changed once their judgement was known."""
    content = seal.read(overrides.FILE) if overrides.FILE in seal.digests else None
    changes = overrides.read(content, overrides.FILE)
    found = [each.words() for each in changes if each.judged and each.moves_judgement]
    known = _sealed(runner, seal, artifacts.READINGS)
    if known is not None:
        own = {g.name: g.limit for g in gates.gates}
        own[readings.CONFIDENCE] = runner.config.compare.confidence
        for reading in known.earlier:
            if reading.passed is False and (wide := readings.wider(own, reading.limits)):
                found.append(
                    f"{reading.run} read the same test data and failed; this run allows more "
                    f"({', '.join(wide)})"
                )
    return "; ".join(dict.fromkeys(found))


def _registered(
    runner: Runner, seal: Seal, registry: Registry, state: str, champion: Version | None
) -> tuple[Version | None, Version]:
    """Return the version of the unpruned network, if it is the first way back, and the pruned."""
    place, first = str(runner.path.absolute()), None
    mlflow_run = track.log_run(runner, registry)
    with tempfile.TemporaryDirectory(prefix="srinit-") as name:
        if champion is None:
            runner.observer.say("the first version is the unpruned network: the way back")
            folder = Path(name) / "unpruned"
            digest = versions.unpruned_version(runner, folder)
            first = registry.register(
                folder, digest, mlflow_run=mlflow_run, run=place, gate="unpruned",
                weights=versions.weights_of(folder),
            )  # fmt: skip
        folder = Path(name) / "pruned"
        digest = versions.pruned_version(runner, seal, folder)
        runner.observer.progress(1, 2)
        version = registry.register(
            folder, digest, mlflow_run=mlflow_run, run=place, gate=state,
            weights=versions.weights_of(folder),
        )  # fmt: skip
    return first, version
