"""Walks image folders as torchvision does; every entry is read, refused, or counted and named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from srinit.class_names import natural_key
from srinit.errors import DataError
from srinit.pixels.images import SUFFIXES
from srinit.sources.kinds.loaded import (
    listing,
    outside,
    raise_outside,
    raise_unreadable_names,
)

SHOWN = 3  # entries named in a note
LITTER = frozenset(
    (
        *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "@appstore"),  # Synology, QNAP
        *("#recycle", "#snapshot", "~snapshot"),
        *("$recycle.bin", "recycler", "recycled", "system volume information"),  # Windows
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"),
        *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS
        *("lost+found", "__pycache__"),
    )
)
"""What file servers, systems and tools leave in folders, in lower case; besides, all that is
hidden (`.DS_Store`, `.ipynb_checkpoints`, `.Trash-1000`, `._a.png`)."""

Place = tuple[int, int]  # device and inode


@dataclass
class Inventory:
    """What was found below a folder: the images, and everything else by kind.

    Args:
        base: The source's folder; paths are kept relative to it.
    """

    base: Path
    others: Counter[str] = field(default_factory=Counter)  # endings of files that are no images
    first_other: str = ""
    hidden: list[str] = field(default_factory=list)
    litter: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)  # files in no class
    loops: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)  # links that were followed
    escaped: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def class_folders(self, wanted: Sequence[str] = ()) -> list[str]:
        """Return the names of the folders in the base, those `wanted` whatever they look like."""
        folders, files = self._entries(self.base, (_place(self.base),), keep=wanted)
        self.beside += [self._name(path) for path in files]
        return [path.name for path in folders]

    def images(self, top: Path) -> list[str]:
        """Return the images below a folder in natural order, relative to the base."""
        above = (_place(self.base),) if top == self.base else (_place(self.base), _place(top))
        found = sorted(self._walk(top, above), key=lambda path: (natural_key(path), str(path)))
        return [self._name(path) for path in found]

    def _walk(self, top: Path, above: tuple[Place, ...]) -> list[Path]:
        folders, files = self._entries(top, above)
        images = [path for path in files if path.suffix.lower() in SUFFIXES]
        for path in files:
            if path.suffix.lower() not in SUFFIXES:
                self.others[path.suffix.lower() or "no ending"] += 1
                self.first_other = self.first_other or self._name(path)
        for folder in folders:
            images += self._walk(folder, (*above, _place(folder)))
        return images

    def _entries(
        self, top: Path, above: tuple[Place, ...], keep: Sequence[str] = ()
    ) -> tuple[list[Path], list[Path]]:
        """Return the folders and the files in a folder that are to be read; note the others."""
        try:
            paths = sorted(top / name for name in os.listdir(top))  # noqa: PTH208 - as iterdir, sorted
        except OSError as error:
            self.closed.append(f"{self._name(top)}: {error.strerror}")
            return [], []
        folders: list[Path] = []
        files: list[Path] = []
        for path in paths:
            if path.name.startswith(".") and path.name not in keep:
                self.hidden.append(self._name(path))
            elif path.name.lower() in LITTER and path.name not in keep:
                self.litter.append(self._name(path))
            elif path.is_symlink() and not self._is_followed(path, above):
                continue
            else:
                (folders if path.is_dir() else files).append(path)
        return folders, files

    def _is_followed(self, path: Path, above: tuple[Place, ...]) -> bool:
        """Return whether a link is read; else it is noted with the reason."""
        name = self._name(path)
        if not path.exists():
            self.broken.append(f"{name} -> {os.readlink(path)}")  # noqa: PTH115 - as it is written
        elif outside(self.base, path):
            self.escaped.append(name)
        elif path.is_dir() and _place(path) in above:
            self.loops.append(name)
        else:
            self.linked.append(name)
            return True
        return False

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.base))

    def check(self, files: Sequence[str]) -> None:
        """Raise for what cannot be read.

        Raises:
            UnsafeError: Links lead out of the base.
            DataError: Links that lead nowhere, folders that may not be read, names that are no
                UTF-8; all of them are listed.
        """
        raise_outside(self.base, self.escaped)
        if self.broken or self.closed:
            lines = [f"{link} (there is no such file)" for link in self.broken]
            raise DataError(
                f"{self.base}: {len(self.broken)} links lead nowhere and "
                f"{len(self.closed)} folders cannot be read; repair or remove:\n"
                + listing([*lines, *self.closed])
            )
        raise_unreadable_names(self.base, files)

    def notes(self, files: Sequence[str]) -> tuple[str, ...]:
        """Return a sentence for everything that was not read, and for what was read twice."""
        lines = []
        if self.others:
            kinds = ", ".join(f"{count} {suffix}" for suffix, count in self.others.most_common(5))
            lines.append(
                f"{sum(self.others.values())} files that are no images were left out ({kinds}; "
                f"the first is {self.first_other})"
            )
        for found, what in (
            (self.beside, "files lie beside the class folders, in no class, and were left out"),
            (self.hidden, "hidden files or folders were left out"),
            (self.litter, "files or folders of file servers, systems or tools were left out"),
            (self.loops, "links to a folder that they lie in were not followed"),
        ):
            if found:
                lines.append(f"{len(found)} {what} ({_shown(found)})")
        twice = len(files) - len(self._real(files)) if self.linked else 0
        if twice:
            lines.append(
                f"{twice} images are read more than once, through links ({_shown(self.linked)}), "
                "as torchvision does"
            )
        return tuple(f"{self.base}: {_printable(line)}" for line in lines)

    def _real(self, files: Sequence[str]) -> set[str]:
        return {os.path.realpath(self.base / name) for name in files}


def _place(path: Path) -> Place:
    found = path.stat()
    return found.st_dev, found.st_ino


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _printable(line: str) -> str:
    """Return a line without control characters and bytes that are no UTF-8."""
    text = line.encode("utf-8", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
