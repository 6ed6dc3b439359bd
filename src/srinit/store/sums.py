"""`SHA256SUMS`: the hashes of a folder's files, in the form that `sha256sum -c` reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from srinit.errors import IntegrityError, UnsafeError
from srinit.store.files import sha256_file, write_text
from srinit.store.tree import no_link

LINE = re.compile(r"([0-9a-f]{64})  ([^\0]+)")


def read_sums(path: Path) -> dict[str, str]:
    """Return the hash of every file by its name, relative to the folder; empty without a file.

    Raises:
        IntegrityError: A line is no hash and name, or names a file outside the folder.
    """
    return parse_sums(path.read_bytes(), path) if path.is_file() else {}


def parse_sums(content: bytes, path: Path) -> dict[str, str]:
    """Return the hash of every file by its name, from what such a list holds.

    Raises:
        IntegrityError: A line is no hash and name, or names a file outside the folder.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
        match = LINE.fullmatch(line)
        if match is None or match[2].startswith("/") or ".." in match[2].split("/"):
            raise IntegrityError(f"{path}, line {number}: is no hash and file name; it is damaged.")
        found[match[2]] = match[1]
    return found


def write_sums(path: Path, sums: Mapping[str, str]) -> None:
    """Write the hashes, sorted by name, atomically.

    Raises:
        UnsafeError: A name that the list cannot hold: with a line break, or not UTF-8.
    """
    for name in sums:
        if name.splitlines() != [name] or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UnsafeError(
                f"{path.parent} holds a file {name!r}, which no run writes; remove it."
            )
    write_text(path, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


def check_file(folder: Path, name: str, digest: str) -> None:
    """Raise unless a file of `folder` has the recorded hash.

    Raises:
        IntegrityError: It is missing, a link, or has another hash.
    """
    path = folder / name
    no_link(folder, name)
    if not path.is_file():
        raise IntegrityError(f"{path} is missing, but its hash is recorded.")
    try:
        found = sha256_file(path)
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror}.") from None
    if found != digest:
        raise IntegrityError(
            f"{path} was changed since it was written (SHA-256 {found[:12]}..., recorded "
            f"{digest[:12]}...); it was edited or damaged and is not used. Restore it, or begin a "
            "new run."
        )
