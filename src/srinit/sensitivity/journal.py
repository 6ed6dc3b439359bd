"""The scan's journal: one line an observation, appended and flushed; the way to resume."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from srinit.errors import ConfigError, ResourceError

SCHEMA = "srinit.observations/1"


class Journal:
    """An append-only file of JSON lines; the first one says what the scan is.

    A last line that was cut off by a kill or a power loss is dropped on opening.

    Args:
        path: The file; None keeps nothing.
        identity: What must agree for observations to be continued.

    Raises:
        ConfigError: The file belongs to another scan; the first difference is named.
        ResourceError: The file cannot be written.
    """

    def __init__(self, path: Path | None, identity: dict[str, Any]) -> None:
        self._path = path
        header = {"schema": SCHEMA, **identity}
        self.lines: list[dict[str, Any]] = []
        if path is None:
            return
        found = _read(path)
        if found:
            _check(path, found[0], json.loads(json.dumps(header)))
            self.lines = found[1:]
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._write([header], mode="wb")

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Write lines and wait until they are on the disk.

        Raises:
            ResourceError: The disk is full; what was there before stays readable.
        """
        self.lines.extend(lines)
        if self._path is not None and lines:
            self._write(lines, mode="ab")

    def _write(self, lines: list[dict[str, Any]], *, mode: str) -> None:
        assert self._path is not None
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        try:
            with self._path.open(mode) as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ResourceError(
                f"cannot write {self._path}: {error.strerror}. Free space and run the scan "
                "again; it resumes."
            ) from error


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a journal; what follows them is cut off in the file too."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ResourceError(f"cannot read the journal {path}: {error.strerror}.") from error
    end = content.rfind(b"\n") + 1
    lines = []
    good = 0
    for raw in content[:end].splitlines(keepends=True):
        try:
            line = json.loads(raw)
        except ValueError:
            break
        if not isinstance(line, dict):
            break
        lines.append(line)
        good += len(raw)
    if good < len(content):
        os.truncate(path, good)
    return lines


def _check(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key, value in wanted.items():
        if found.get(key) != value:
            raise ConfigError(
                f"{path} is the journal of another scan: {key} is {found.get(key)!r} there and "
                f"{value!r} now. Resume with the same settings, or start a new run."
            )
