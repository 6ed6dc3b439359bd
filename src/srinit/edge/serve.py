"""Images of a folder as they come, and the log of answers. Shipped with edge packages."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

TAIL = 1 << 20  # a half-written last line is looked for in so many bytes


def images(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Return the images under a folder by their endings, hidden ones left out, sorted."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    return sorted(p for p in found if not p.name.startswith("."))


def found(
    places: Sequence[Path], suffixes: Collection[str], log: Log | None, *, watch: bool
) -> Iterator[tuple[Path, Path]]:
    """Yield the images to answer, each after the file or folder that it was named by.

    Args:
        places: As the user wrote them.
        suffixes: Endings of the images in folders.
        log: Of images that were answered before.
        watch: Go on for ever with what comes into the one folder.

    Raises:
        SystemExit: There is no such file or folder, or no image in it.
    """
    for place in places:
        if watch and (len(places) > 1 or not place.is_dir()):
            raise SystemExit("--watch takes one folder that is there.")
        there = [place] if place.is_file() else images(place, suffixes)
        if not there and not watch:
            raise SystemExit(f"{str(place)!r}: no such file, or no images in it.")
        for path in watched(place, suffixes, log.known if log else ()) if watch else there:
            yield place, path


def watched(
    folder: Path, suffixes: Collection[str], known: Collection[str], *, pause: float = 0.3
) -> Iterator[Path]:
    """Yield the images of a folder for ever, each when its file has stopped growing.

    A file that is written anew comes again.

    Args:
        folder: Where they arrive, in sub-folders too.
        suffixes: Their endings.
        known: Names inside the folder that were answered before; they are left out as they are.
        pause: Seconds between two looks.
    """
    done: dict[Path, tuple[int, int] | None] = {}
    growing: dict[Path, tuple[int, int] | None] = {}
    for path in images(folder, suffixes):
        if path.relative_to(folder).as_posix() in known:
            done[path] = _state(path)
    while True:
        for path in images(folder, suffixes):
            state = _state(path)
            if state is not None and done.get(path) != state and growing.get(path) == state:
                done[path] = state
                yield path
            growing[path] = state
        time.sleep(pause)


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:  # gone again
        return None
    return found.st_size, found.st_mtime_ns


class Log:
    """A prediction log that `srinit monitor` reads; one process writes to it.

    Args:
        path: The file, made if it does not exist; a half-written last line is dropped.
        model: SHA-256 by which the log names the network.
    """

    def __init__(self, path: Path, model: str) -> None:
        self.model = model
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b", buffering=0)
        size = self._file.seek(0, os.SEEK_END)
        begin = max(0, size - TAIL)
        self._file.seek(begin)
        tail = self._file.read(size - begin) or b""
        self._file.truncate(begin + tail.rfind(b"\n") + 1)
        self._file.seek(0)
        lines = (json.loads(line) for line in self._file if line.strip())
        mine = (line for line in lines if line.get("model") == model)
        self.known = {line["image"] for line in mine if "error" not in line}

    def write(self, image: str, answer: Mapping[str, Any]) -> None:
        """Append one answer, or the `error` why there is none; whole or not at all."""
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        body = {"time": now, "model": self.model, "image": image, **answer}
        self._file.write((json.dumps(body, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
