"""The files of a version and their hashes: what is read back is what was registered, or refused."""

from __future__ import annotations

from pathlib import Path

from srinit.errors import IntegrityError
from srinit.store import sha256_file
from srinit.store.sums import check_file, read_sums, write_sums

SUMS = "SHA256SUMS"


def sign_version(folder: Path) -> str:
    """Write `SHA256SUMS` over every file of a version's folder; return the hash of that list.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     _ = (Path(name) / "model.safetensors").write_bytes(b"weights")
        ...     digest = sign_version(Path(name))
        ...     check_version(Path(name), digest)
        1
    """
    write_sums(folder / SUMS, {name: sha256_file(folder / name) for name in _names(folder)})
    return sha256_file(folder / SUMS)


def check_version(folder: Path, digest: str) -> int:
    """Hash every file of a version again; return how many there are.

    Args:
        folder: What was read from the registry.
        digest: Hash of the list of hashes, as it was recorded when the version was made.

    Raises:
        IntegrityError: The first file that is missing, changed or added is named.
    """
    sums = folder / SUMS
    if not sums.is_file():
        raise IntegrityError(f"{folder}: {SUMS} is missing; that is no version of srinit.")
    if sha256_file(sums) != digest:
        raise IntegrityError(f"{sums} was changed since the version was registered.")
    recorded = read_sums(sums)
    for name, found in recorded.items():
        check_file(folder, name, found)
    for name in _names(folder):
        if name not in recorded:
            raise IntegrityError(f"{folder / name} was added since the version was registered.")
    return len(recorded)


def _names(folder: Path) -> list[str]:
    found = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in found if name != SUMS)
