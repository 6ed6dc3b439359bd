"""What happens after the decision: promotion, the way back, and the check of everything."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from srinit import registry as registries
from srinit.config import Config
from srinit.display import command
from srinit.errors import ConfigError, GateFailedError, IntegrityError, PruneError, UnsafeError
from srinit.gates import GateResult
from srinit.pipeline import cut, judge, start, track, versions
from srinit.pipeline.session import Session
from srinit.records import record
from srinit.registry import CHAMPION, Registry, Version
from srinit.store import RunFolder, audit, sha256_file
from srinit.store.run_folder import SUMS

STORE = "mlflow"  # folder of the local registry, beside the runs


@record
class Promoted:
    """What `promote` did."""

    model: str
    registry: str
    version: int  # champion now
    replaced: int | None  # champion before; `rollback` returns to it
    gate: str  # "passed" or "overridden"
    already: bool = False  # it was champion before


@record
class RolledBack:
    """What `rollback` did, or would do."""

    model: str
    registry: str
    champion: int  # before
    target: int  # the version that is, or would be, champion
    files: int  # whose hashes were checked
    smoke_examples: int | None  # answered as before; None: not rehearsed
    rehearsed: bool
    finished_earlier: bool = False  # a move that a crash had interrupted was completed


@contextmanager
def opened(path: Path, config: Config, *, create: bool = False) -> Iterator[Registry]:
    """Yield the registry of a run: its config's, by default the one beside the run folders.

    Raises:
        ConfigError: There is no local registry yet, and `create` is not given.
    """
    settings = config.registry
    place = path.absolute().parent / STORE
    if not create and _is_missing(path, config):
        raise ConfigError(
            f"{path} has no champion: there is no registry {place}; srinit promote RUN makes one."
        )
    with registries.open_registry(
        place,
        settings.model or config.name,
        uri=settings.uri,
        read_environment=settings.read_environment,
    ) as registry:
        yield registry


def _is_missing(path: Path, config: Config) -> bool:
    """Return whether a run's registry is a local one that is not there."""
    here = path.absolute().parent / STORE / "mlflow.db"
    return config.registry.uri is None and not here.is_file()


def log_finished(session: Session) -> None:
    """Log a finished run, promoted or not, where the config asks for it (`registry.track`)."""
    if session.config.registry.track:
        with opened(session.path, session.config, create=True) as registry:
            track.log_run(session, registry)


def promote(session: Session, *, override: bool = False, reason: str = "") -> Promoted:
    """Return the promotion of a run's pruned network to champion.

    Everything is checked first: the hashes of the run, and that its gates were passed. The
    unpruned network becomes the first version, so that there is a way back from the beginning.
    Killed at any moment, the same command completes it.

    Raises:
        GateFailedError: A gate said no, and `override` is not given.
        UnsafeError: Nothing was judged, or the run is not sealed.
        IntegrityError: A file of the run was changed.
        ConfigError: An override without a reason.
    """
    if override and not reason.strip():
        raise ConfigError('an override needs a reason, which goes on record: --reason "..."')
    session.folder.verify()
    state = _judged(session, override=override, reason=reason)
    with opened(session.path, session.config, create=True) as registry:
        first, version = _registered(session, registry, state)
        with registry.turn():
            registry.recover()
            return _promote(session.folder, registry, first, version, reason)


def _judged(session: Session, *, override: bool, reason: str) -> str:
    """Return "passed" or "overridden"; a refusal goes on record."""
    path = cut.stage_folder(session) / "gate.json"
    if not path.is_file():
        problem: PruneError = UnsafeError(
            f"{session.path} holds no judgement of its gates; "
            f"{command('compare', session.path)} makes one."
        )
        raise problem
    gates = session.folder.read_record(GateResult, path, schema=judge.GATE_SCHEMA)
    if gates.passed and gates.gates:
        return "passed"
    if override:
        return "overridden"
    advice = 'If it must go live all the same: --override --reason "...", which is recorded.'
    if gates.gates:
        said = "; ".join(gate.sentence for gate in gates.failed)
        problem = GateFailedError(f"{session.path} is not promoted: {said}. {advice}")
    else:
        problem = UnsafeError(
            f"{session.path} is not promoted: it has no gates, so nothing was judged. {advice}"
        )
    session.folder.audit(
        "promote", "refused", reason=str(problem), inputs={"gate.json": sha256_file(path)}
    )
    raise problem


def _registered(session: Session, registry: Registry, state: str) -> tuple[Version | None, Version]:
    """Return the version of the unpruned network, if it is the first way back, and the pruned."""
    place, first = str(session.path.absolute()), None
    mlflow_run = track.log_run(session, registry)
    with tempfile.TemporaryDirectory(prefix="srinit-") as name:
        if registry.alias(CHAMPION) is None:
            session.observer.say("the first version is the unpruned network: the way back")
            folder = Path(name) / "unpruned"
            digest = versions.unpruned_version(session, folder)
            first = registry.register(
                folder, digest, mlflow_run=mlflow_run, run=place, gate="unpruned"
            )
        folder = Path(name) / "pruned"
        digest = versions.pruned_version(session, folder)
        session.observer.progress(1, 2)
        version = registry.register(folder, digest, mlflow_run=mlflow_run, run=place, gate=state)
    return first, version


def _promote(
    folder: RunFolder, registry: Registry, first: Version | None, version: Version, reason: str
) -> Promoted:
    if first is not None and registry.alias(CHAMPION) is None:
        _record(folder, registry, first, f"champion of {registry.model}: version {first.version}")
        registry.promote(first)
    registry.set_candidate(version)
    old = registry.alias(CHAMPION)
    already = old is not None and old.version == version.version
    before = version.replaced if already else old.version if old is not None else None
    if not already:
        number = old.version if old is not None else None
        decision = f"champion of {registry.model}: version {number} -> {version.version}"
        if version.gate == "overridden":
            decision = f"override, {decision}"
        _record(folder, registry, version, decision, reason)
        registry.promote(version)
    return Promoted(
        model=registry.model,
        registry=registry.uri,
        version=version.version,
        replaced=before,
        gate=version.gate,
        already=already,
    )


def _record(
    folder: RunFolder,
    registry: Registry,
    version: Version,
    decision: str,
    reason: str = "",
) -> None:
    inputs = {
        "registry": registry.uri,
        "model": version.model,
        "version": version.version,
        "version_sums": version.digest,
        "run_sums": sha256_file(folder.path / SUMS),
    }
    folder.audit("promote", decision, reason=reason, inputs=inputs)


def rollback(
    path: Path, overrides: list[str] | None = None, *, rehearse: bool = False, reason: str = ""
) -> RolledBack:
    """Return the way back to the version before: taken, or only rehearsed.

    Every file of that version is read from the registry and hashed first. A rehearsal also loads
    it and compares its answers to the smoke set with those it gave when it was registered; no
    alias moves. Neither needs the run's data.

    Raises:
        ConfigError: There is no version to return to.
        IntegrityError: A file of it was changed; nothing is moved.
        ModelError: It cannot be loaded, or answers differently.
    """
    folder = RunFolder.open(path)
    config = start.config_of(folder, overrides or ())
    with opened(path, config) as registry, nullcontext() if rehearse else registry.turn():
        if not rehearse and registry.recover() == "rollback":
            return _completed(folder, registry)
        champion, previous = registry.way_back()
        try:
            files, smoke = _checked(registry, previous, config, load=rehearse)
        except PruneError as error:
            folder.audit("rollback", "refused", reason=str(error), inputs=_inputs(previous))
            raise
        if rehearse:
            decision = f"rehearsed: version {previous.version} of {registry.model} loads and runs"
        else:
            decision = (
                f"rolled back {registry.model}: version {champion.version} -> {previous.version}"
            )
        folder.audit("rollback", decision, reason=reason, inputs=_inputs(previous))
        if not rehearse:
            registry.rollback()
        return RolledBack(
            model=registry.model,
            registry=registry.uri,
            champion=champion.version,
            target=previous.version,
            files=files,
            smoke_examples=smoke,
            rehearsed=rehearse,
        )


def _inputs(version: Version) -> dict[str, Any]:
    return {
        "model": version.model,
        "back_to": version.version,
        "version_sums": version.digest,
    }


def _checked(
    registry: Registry, version: Version, config: Config, *, load: bool
) -> tuple[int, int | None]:
    """Return the number of files checked, and of questions answered as before if loaded."""
    with tempfile.TemporaryDirectory(prefix="srinit-") as name:
        place = registry.fetch(version, Path(name))
        files = registries.check_version(place, version.digest)
        if not load:
            return files, None
        return files, versions.smoke_test(versions.load_version(place, config), place)


def _completed(folder: RunFolder, registry: Registry) -> RolledBack:
    champion = registry.alias(CHAMPION)
    if champion is None:
        raise ConfigError(f"{registry.model} has no champion in {registry.uri}.")
    folder.audit(
        "rollback",
        f"rolled back {registry.model} to version {champion.version}: completed after a crash",
        inputs=_inputs(champion),
    )
    return RolledBack(
        model=registry.model,
        registry=registry.uri,
        champion=champion.version,
        target=champion.version,
        files=registry.verify(champion),
        smoke_examples=None,
        rehearsed=False,
        finished_earlier=True,
    )


@record
class Verified:
    """What `verify` hashed again."""

    files: int
    audit_entries: int
    versions: tuple[int, ...]  # of the registry that belong to the run
    version_files: int
    registry: str


def verify(path: Path, overrides: list[str] | None = None) -> Verified:
    """Return what was checked: every file of a run, its audit log, its registered versions.

    Raises:
        IntegrityError: The first break is named.
        RegistryError: The run has versions in a registry that cannot be reached.
    """
    folder = RunFolder.open(path)
    files = folder.verify()
    entries = audit.read(path / "audit.jsonl").entries
    registered = {
        int(entry["inputs"]["version"]): str(entry["inputs"]["version_sums"])
        for entry in entries
        if entry["verb"] == "promote" and "version_sums" in entry["inputs"]
    }
    found, uri = 0, ""
    if registered:
        config = start.config_of(folder, overrides or ())
        if _is_missing(path, config):
            raise IntegrityError(
                f"{path} was promoted as version {', '.join(map(str, registered))}, but the "
                f"registry {path.absolute().parent / STORE} is gone; restore it from a backup."
            )
        with opened(path, config) as registry:
            uri = registry.uri
            for number, digest in registered.items():
                version = registry.version(number)
                if version.digest != digest:
                    raise UnsafeError(
                        f"version {number} of {version.model} in {uri} is another than the one "
                        f"that was promoted (its hash differs from the one in {path}/audit.jsonl)."
                    )
                found += registry.verify(version)
    return Verified(
        files=files,
        audit_entries=len(entries),
        versions=tuple(registered),
        version_files=found,
        registry=uri,
    )
