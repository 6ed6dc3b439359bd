"""The check of everything: files, seal, signature, audit log, and the versions in the registry."""

from __future__ import annotations

from pathlib import Path

from srinit.custody import signature
from srinit.errors import IntegrityError, MissingExtraError, RegistryError, UnsafeError
from srinit.operations import moves
from srinit.pipeline.registries import is_missing, local_store, opened
from srinit.records import record
from srinit.registry import Registry
from srinit.report.fingerprint import data_files, fingerprint
from srinit.runs.inputs import config_of
from srinit.store import RunFolder
from srinit.store.seal import Seal


@record
class Verified:
    """What `verify` hashed again."""

    files: int
    root: str  # one hash over names, kinds and contents of them
    audit_entries: int
    versions: tuple[int, ...]  # of the registry that belong to the run
    version_files: int
    registry: str
    data: str = ""  # hash of the data files, as it stands beside the signatures of the report
    signed_by: str = ""  # fingerprint of the key, where one was asked for
    note: str = ""  # what could not be looked at


def verify(path: Path, overrides: list[str] | None = None, *, key: Path | None = None) -> Verified:
    """Return what was checked: every file of a run, its audit log, its registered versions.

    The registry is asked whenever there is one: it knows how long the audit log was, and whether
    it is itself older than the moves that are on record.

    Args:
        path: The run.
        overrides: Of its config.
        key: A public key that the seal must be signed by.

    Raises:
        IntegrityError: The first break is named.
        RegistryError: The run has versions in a registry that cannot be reached.
    """
    folder = RunFolder.open(path)
    seal = folder.checked()
    signed_by = "" if key is None else signature.check(seal, key)
    registered = moves.registered(seal.log)
    named = "config.yaml" in seal.digests
    config = config_of(folder, overrides or ()) if named else None
    found, uri, note = 0, "", ""
    if config is None or is_missing(path, config):
        if registered:
            raise IntegrityError(
                f"{path} was promoted as version {', '.join(map(str, registered))}, but the "
                f"registry {local_store(path)} is gone; restore it from a backup."
            )
    else:
        try:
            with opened(path, config) as registry:
                uri = registry.uri
                found = _versions(seal, registry, registered)
        except (RegistryError, MissingExtraError) as error:
            if registered:
                raise
            note = f"the registry could not be asked whether the log was cut off: {error}"
    return Verified(
        files=len(seal.digests),
        root=seal.root,
        audit_entries=len(seal.log.entries),
        versions=tuple(registered),
        version_files=found,
        registry=uri,
        data=fingerprint(data_files(path)),
        signed_by=signed_by,
        note=note,
    )


def _versions(seal: Seal, registry: Registry, registered: dict[int, str]) -> int:
    """Return how many files of versions are what they were registered as."""
    moves.check_head(seal, registry)
    found = 0
    for number, digest in registered.items():
        if number not in {version.version for version in registry.versions()}:
            raise IntegrityError(
                f"version {number} of {registry.model} is gone from the registry {registry.uri}; "
                "it was restored from an older copy, or the version was deleted."
            )
        version = registry.version(number)
        if version.digest != digest:
            raise UnsafeError(
                f"version {number} of {version.model} in {registry.uri} is another than the one "
                f"that was promoted (its hash differs from the one in {seal.folder}/audit.jsonl)."
            )
        found += registry.verify(version)
    moves.check_newest(seal.folder, registry)
    return found
