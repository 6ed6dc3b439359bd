"""A folder as one hash: the names, kinds and contents of all that it holds; no link is followed.

As in a tree of git, a file is plain (`100644`) or executable (`100755`), and folders are there
through the files in them. Links, devices and pipes have no place in a run.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from srinit.errors import IntegrityError

PLAIN, EXECUTABLE, FOLDER = "100644", "100755", "040000"


def kinds(folder: Path, *, leave_out: Collection[str] = ()) -> dict[str, str]:
    """Return the kind of every file under a folder by its name; hidden lock files are left out.

    A folder that holds nothing is there too, under its name with a slash behind it.

    Args:
        folder: What is looked at.
        leave_out: Names at its top that do not count.

    Raises:
        IntegrityError: It holds a link, or something that is neither file nor folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     _ = (Path(name) / "plan.json").write_text("{}")
        ...     kinds(Path(name))
        {'plan.json': '100644'}
    """
    found = {n: kind for n, kind in _walk(folder, "") if n not in leave_out and not _is_lock(n)}
    return dict(sorted(found.items()))


def root_of(kinds: Mapping[str, str], digests: Mapping[str, str]) -> str:
    """Return one hash over names, kinds and contents.

    Args:
        kinds: Of every file, by name.
        digests: The SHA-256 of every file, by name.
    """
    lines = (f"{kinds[name]} {digests[name]} {name}\n" for name in sorted(kinds))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def no_link(folder: Path, name: str) -> None:
    """Raise `IntegrityError` where a file of `folder`, or a folder on the way to it, is a link."""
    place = folder
    for part in name.split("/"):
        place = place / part
        if place.is_symlink():
            raise IntegrityError(
                f"{place} is a link to {place.readlink()}; no run writes links, and it is not "
                "followed. Put the file itself in its place."
            )


def no_links(folder: Path) -> None:
    """Raise `IntegrityError` where anything under `folder` is a link; none is followed."""
    for place, folders, files in os.walk(folder):
        for name in sorted((*folders, *files)):
            no_link(Path(place), name)


def remove_empty(folder: Path) -> None:
    """Remove the folders under `folder` that hold nothing."""
    for place, _, _ in os.walk(folder, topdown=False):
        path = Path(place)
        if path != folder and not any(path.iterdir()):
            path.rmdir()


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, str]]:
    with os.scandir(folder) as entries:
        children = sorted(entries, key=lambda entry: entry.name)
    if not children and prefix:
        yield prefix, FOLDER
    for entry in children:
        name, mode = prefix + entry.name, entry.stat(follow_symlinks=False).st_mode
        if entry.is_symlink():
            no_link(folder, entry.name)
        if stat.S_ISDIR(mode):
            yield from _walk(Path(entry.path), f"{name}/")
        elif stat.S_ISREG(mode):
            yield name, EXECUTABLE if mode & stat.S_IXUSR and os.name == "posix" else PLAIN
        else:
            raise IntegrityError(f"{entry.path} is neither file nor folder; remove it.")


def _is_lock(name: str) -> bool:
    last = name.rpartition("/")[2]
    return last.startswith(".") and last.endswith(".lock")
