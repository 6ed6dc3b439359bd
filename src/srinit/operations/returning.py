"""The way back to the version before: taken, or only tried; neither needs the run's data."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from srinit import registry as registries
from srinit.config import Config
from srinit.errors import PruneError, UnsafeError
from srinit.operations import moves, versions
from srinit.pipeline.registries import opened
from srinit.records import record
from srinit.registry import Registry, Version
from srinit.runs.inputs import config_of
from srinit.store import RunFolder, audit
from srinit.store.seal import AUDIT, last_seal


@record
class RolledBack:
    """What `rollback` did, or would do."""

    model: str
    registry: str
    champion: int  # before
    target: int  # the version that is, or would be, champion
    files: int  # whose hashes were checked
    smoke_examples: int | None  # answered as before; None: not a drill
    rehearsed: bool  # a drill: nothing moved
    finished_earlier: bool = False  # a move that a crash had interrupted was completed


def rollback(
    path: Path,
    overrides: list[str] | None = None,
    *,
    drill: bool = False,
    reason: str = "",
    watched: str | None = None,
    more: dict[str, Any] | None = None,
) -> RolledBack:
    """Return the way back to the version before: taken, or only tried in a drill.

    Every file of that version is read from the registry and hashed first. A drill also loads
    it and compares its answers to the smoke set with those it gave when it was registered; no
    alias moves.

    Args:
        path: A run whose registry it is.
        overrides: Of the run's config.
        drill: Move nothing.
        reason: Goes on record.
        watched: SHA-256 of the weights that may be left; None: whatever is champion.
        more: For the record.

    Raises:
        ConfigError: There is no version to return to.
        UnsafeError: Another network than the watched one is champion; nothing is moved.
        IntegrityError: A file of the version before was changed; nothing is moved.
        ModelError: It cannot be loaded, or answers differently.
    """
    folder = RunFolder.open(path)
    config = config_of(folder, overrides or ())
    with opened(path, config) as registry:
        half = None if drill else registry.interrupted()
        if half is not None:
            registry.finish(half)
            if half.move is not None and half.move.verb == "rollback":
                return _completed(folder, registry, half)
        champion, previous = registry.rollback_target()
        _check_watched(registry, champion, watched)
        try:
            files, smoke = _checked(registry, previous, config, load=drill)
        except PruneError as error:
            folder.audit("rollback", "refused", reason=str(error), inputs=_inputs(previous))
            raise
        if drill:
            decision = f"rehearsed: version {previous.version} of {registry.model} loads and runs"
            folder.audit("rollback", decision, reason=reason, inputs=_inputs(previous))
        else:
            moves.rolled_back(folder, registry, champion, previous, reason, more or {})
            moves.note_head(folder, registry, _root(folder))
        return RolledBack(
            model=registry.model,
            registry=registry.uri,
            champion=champion.version,
            target=previous.version,
            files=files,
            smoke_examples=smoke,
            rehearsed=drill,
        )


def _check_watched(registry: Registry, champion: Version, watched: str | None) -> None:
    if watched is None:
        return
    weights = champion.weights
    if not weights:  # registered before its tags told of them
        with tempfile.TemporaryDirectory(prefix="srinit-") as name:
            weights = versions.weights_of(registry.fetch(champion, Path(name)))
    if weights != watched:
        raise UnsafeError(
            f"version {champion.version} of {champion.model} is champion, of the run "
            f"{champion.run or 'that is not known'}, and not the network that was watched; only "
            "that one is rolled back."
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


def _completed(folder: RunFolder, registry: Registry, champion: Version) -> RolledBack:
    move = champion.move
    assert move is not None
    folder.audit(
        "rollback",
        f"rolled back {registry.model}: version {move.expected} -> {champion.version}",
        reason="completed after a crash",
        inputs={**_inputs(champion), "registry": registry.uri, "move": move.number},
    )
    moves.note_head(folder, registry, _root(folder))
    return RolledBack(
        model=registry.model,
        registry=registry.uri,
        champion=move.expected or champion.version,
        target=champion.version,
        files=registry.verify(champion),
        smoke_examples=None,
        rehearsed=False,
        finished_earlier=True,
    )


def _root(folder: RunFolder) -> str | None:
    """Return the root that a run was sealed with, as its log tells."""
    _, entry = last_seal(audit.read(folder.path / AUDIT))
    return None if entry is None else str(entry["inputs"].get("root"))
