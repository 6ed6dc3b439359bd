"""Moves of the alias `champion`, on record before and after, and what the record says of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from srinit.errors import IntegrityError, PruneError
from srinit.registry import Registry, Version
from srinit.store import RunFolder, audit
from srinit.store.seal import AUDIT, Seal

INTENDED = "intended: "
VERBS = ("promote", "rollback")


def promoted(
    folder: RunFolder,
    seal: Seal,
    registry: Registry,
    version: Version,
    expected: int | None,
    reason: str = "",
) -> None:
    """Make a version champion: written down before it moves, and again when it has."""
    where = "" if expected is None else f"{expected} -> "
    decision = f"champion of {registry.model}: version {where}{version.version}"
    if version.gate == "overridden":
        decision = f"override, {decision}"
    told = {"run_sums": seal.sums, "run_root": seal.root}
    inputs = {**_inputs(registry, version, expected), **told}
    folder.audit("promote", INTENDED + decision, reason=reason, inputs=inputs)
    moved = registry.promote(version, expected=expected)
    folder.audit("promote", decision, reason=reason, inputs={**inputs, **_number(moved)})
    note_head(folder, registry, seal.root)


def completed(folder: RunFolder, seal: Seal, registry: Registry, champion: Version) -> None:
    """Finish what a crash left of a promotion: the note of the registry, and the entry."""
    if registry.interrupted() is not None:
        registry.finish(champion)
    entries = audit.read(folder.path / AUDIT).entries
    told = [e for e in entries if e["verb"] in VERBS and e["inputs"].get("version")]
    if told and told[-1]["decision"].startswith(INTENDED):
        inputs = {**told[-1]["inputs"], **_number(champion)}
        decision = told[-1]["decision"].removeprefix(INTENDED)
        folder.audit("promote", decision, reason="completed after a crash", inputs=inputs)
    elif champion.version not in registered(audit.read(folder.path / AUDIT)):
        decision = f"champion of {registry.model} already: version {champion.version}"
        inputs = _inputs(registry, champion, champion.version)
        folder.audit("promote", decision, reason="of the same content", inputs=inputs)
    note_head(folder, registry, seal.root)


def rolled_back(
    folder: RunFolder,
    registry: Registry,
    champion: Version,
    previous: Version,
    reason: str,
    more: dict[str, Any],
) -> None:
    """Make the version before champion again; written down before and after."""
    inputs = {
        **_inputs(registry, previous, champion.version), "back_to": previous.version, **more,
    }  # fmt: skip
    decision = f"rolled back {registry.model}: version {champion.version} -> {previous.version}"
    folder.audit("rollback", INTENDED + decision, reason=reason, inputs=inputs)
    _, moved = registry.rollback(expected=champion.version)
    folder.audit("rollback", decision, reason=reason, inputs={**inputs, **_number(moved)})


def note_head(folder: RunFolder, registry: Registry, root: str | None) -> None:
    """Keep the length and head of a run's audit log in the registry."""
    if root is not None:
        log = audit.read(folder.path / AUDIT)
        registry.note_log(root, len(log.entries), log.head)


def check_head(seal: Seal, registry: Registry) -> None:
    """Check that the audit log goes on from what the registry knows of it.

    Raises:
        IntegrityError: Its end was cut off, or it is another log.
    """
    noted = registry.noted_log(seal.root)
    if noted is None:
        return
    entries, head = noted
    log = seal.log
    if len(log.entries) < entries or log.entries[entries - 1]["hash"] != head:
        raise IntegrityError(
            f"{seal.folder / AUDIT} was cut off or written anew: it holds {len(log.entries)} "
            f"entries, and the registry {registry.uri} knows of {entries} that end with another. "
            "Restore it from a backup."
        )


def check_newest(path: Path, registry: Registry) -> None:
    """Check that the registry knows the moves that the runs here have on record.

    Raises:
        IntegrityError: It is older than they are: it was restored from an older copy.
    """
    last = registry.last_moves()
    known = last[-1].move.number if last and last[-1].move is not None else 0
    newest = max(_moves(path, registry), key=lambda entry: entry["inputs"]["move"], default=None)
    if newest is not None and newest["inputs"]["move"] > known:
        raise IntegrityError(
            f"the registry {registry.uri} is older than the moves on record here: it knows {known} "
            f"moves of {registry.model}, and {newest['decision']!r} was number "
            f"{newest['inputs']['move']} ({newest['time'][:16]}). It was restored from an older "
            "copy, and its champion may be a version that was left. Restore the newest copy, or "
            'put the right version back: srinit promote RUN --override --reason "..."'
        )


def registered(log: audit.AuditLog) -> dict[int, str]:
    """Return the versions that a run was promoted as, by the hash of their files."""
    return {
        int(entry["inputs"]["version"]): str(entry["inputs"]["version_sums"])
        for entry in log.entries
        if entry["verb"] == "promote" and "version_sums" in entry["inputs"]
    }


def _inputs(registry: Registry, version: Version, expected: int | None) -> dict[str, Any]:
    return {
        "registry": registry.uri,
        "model": version.model,
        "version": version.version,
        "version_sums": version.digest,
        "expected": expected,
    }


def _number(version: Version) -> dict[str, int]:
    return {} if version.move is None else {"move": version.move.number}


def _moves(path: Path, registry: Registry) -> Iterator[dict[str, Any]]:
    """Yield the moves that the runs beside a run have on record."""
    local = registry.uri.startswith("sqlite:")
    for log in sorted(path.absolute().parent.glob(f"*/{AUDIT}")):
        try:
            entries = audit.read(log).entries
        except (PruneError, OSError):
            continue  # `verify` of that run says what is wrong with it
        for entry in entries:
            inputs = entry["inputs"]
            if entry["verb"] not in VERBS or not isinstance(inputs.get("move"), int):
                continue
            there = str(inputs.get("registry", ""))
            same = there == registry.uri or (local and there.startswith("sqlite:"))
            if inputs.get("model") == registry.model and same:
                yield entry
