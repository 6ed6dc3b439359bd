"""The seal of a run: one hash of all that it holds, in its audit log, and what is read by it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srinit.errors import IntegrityError, UnsafeError
from srinit.records import record
from srinit.store import audit
from srinit.store.files import read_once, sha256_bytes
from srinit.store.sums import check_file, parse_sums
from srinit.store.tree import EXECUTABLE, PLAIN, kinds, no_link, root_of

SUMS, AUDIT, SIGNATURE = "SHA256SUMS", "audit.jsonl", "seal.sig.json"
OUTSIDE = (SUMS, AUDIT, SIGNATURE)  # the list, the log and the signature cannot hold themselves


@record
class Seal:
    """A seal that was found to be whole.

    What is read through it is compared with hashes that are held in memory, so that nothing that
    is exchanged on disk after the check gets through.
    """

    folder: Path
    root: str  # hash over names, kinds and contents
    sums: str  # hash of the list of hashes
    entry: int  # of the audit log, counted from 1
    entry_hash: str
    log: audit.AuditLog  # as it was when the seal was checked
    digests: dict[str, str]  # of every file, by name

    def read(self, name: str) -> bytes:
        """Return a file of the run, read once, if it is the one that was sealed.

        Raises:
            IntegrityError: It is another, is missing, or a link.
        """
        if name not in self.digests:
            raise IntegrityError(f"{self.folder / name} was added since the run was sealed.")
        return read_checked(self.folder, name, self.digests[name])


def read_checked(folder: Path, name: str, digest: str) -> bytes:
    """Return a file's bytes, read once, if they have the hash.

    Raises:
        IntegrityError: They have another, or the file is missing or a link.
    """
    no_link(folder, name)
    try:
        content = read_once(folder / name)
    except FileNotFoundError:
        raise IntegrityError(f"{folder / name} is missing, but its hash is recorded.") from None
    if sha256_bytes(content) != digest:
        raise IntegrityError(
            f"{folder / name} was changed since it was written; it was edited or damaged and is "
            "not used. Restore it, or begin a new run."
        )
    return content


def entry_inputs(folder: Path, digests: Mapping[str, str], sums: str) -> dict[str, Any]:
    """Return what the seal's entry in the audit log holds.

    Args:
        folder: The run.
        digests: The hash of every file, by name.
        sums: The hash of their list.
    """
    found = kinds(folder, leave_out=OUTSIDE)
    executable = [name for name, kind in found.items() if kind == EXECUTABLE]
    return {SUMS: sums, "root": root_of(found, digests), "executable": executable}


def check(folder: Path) -> Seal:
    """Return the seal of a run after everything it covers was hashed again.

    Raises:
        IntegrityError: The run is not sealed, or the first file that is missing, changed, added,
            or of another kind is named.
    """
    no_link(folder, AUDIT)
    log = audit.read(folder / AUDIT)
    number, entry = last_seal(log)
    if entry is None or not (folder / SUMS).is_file():
        raise IntegrityError(
            f"{folder} is not sealed: {AUDIT} tells of no seal. The run was not finished, or the "
            "log was cut off."
        )
    no_link(folder, SUMS)
    listed = read_once(folder / SUMS)
    signed = entry["inputs"]
    if sha256_bytes(listed) != signed.get(SUMS):
        raise IntegrityError(f"{folder / SUMS} was changed since the run was sealed.")
    digests = parse_sums(listed, folder / SUMS)
    found = kinds(folder, leave_out=OUTSIDE)
    for name, digest in digests.items():
        check_file(folder, name, digest)
    added = next((name for name in found if name not in digests), None)
    if added is not None:
        raise IntegrityError(f"{folder / added} was added since the run was sealed.")
    _check_kinds(folder, found, signed.get("executable", ()))
    if root_of(found, digests) != signed.get("root"):
        raise IntegrityError(f"{folder}: the root of the seal in {AUDIT} is not that of its files.")
    return Seal(
        folder=folder,
        root=str(signed["root"]),
        sums=str(signed[SUMS]),
        entry=number,
        entry_hash=str(entry["hash"]),
        log=log,
        digests=digests,
    )


def last_seal(log: audit.AuditLog) -> tuple[int, dict[str, Any] | None]:
    """Return the number of the entry that seals a run, counted from 1, and the entry."""
    for number in range(len(log.entries), 0, -1):
        if log.entries[number - 1]["verb"] == "seal":
            return number, log.entries[number - 1]
    return 0, None


def refuse_sealed(folder: Path, what: str) -> None:
    """Raise `UnsafeError` for a run that is sealed: nothing in it is ever changed."""
    if last_seal(audit.read(folder / AUDIT))[1] is not None:
        raise UnsafeError(
            f"{folder} is sealed, and a sealed run is never changed: {what} is not written. "
            "Begin a new run, or give a verb that makes one from it (srinit plan, srinit run)."
        )


def refuse_inside(path: Path) -> None:
    """Raise `UnsafeError` where something new would come to lie in a run that is sealed."""
    for folder in (path.resolve(), *path.resolve().parents):
        if (folder / AUDIT).is_file() and (folder / SUMS).is_file():
            refuse_sealed(folder, str(path))


def _check_kinds(folder: Path, found: dict[str, str], executable: Any) -> None:
    """Compare who may be run as a program; put right what a file system without modes says."""
    wanted = {name: EXECUTABLE if name in executable else PLAIN for name in found}
    if all(kind == EXECUTABLE for kind in found.values()):
        found.update(wanted)  # a share of Windows calls everything executable
    for name, kind in found.items():
        if kind != wanted[name]:
            became = "executable" if kind == EXECUTABLE else "not executable"
            raise IntegrityError(f"{folder / name} is {became} since the run was sealed.")
