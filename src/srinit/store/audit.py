"""The audit log: append-only JSON lines, each holding the hash of the one before."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from srinit.errors import IntegrityError, ResourceError

GENESIS = "0" * 64


def append(path: Path, *, verb: str, decision: str, reason: str = "", inputs: Any = None) -> None:
    """Append one entry: who, when, which verb, inputs by hash, decision, reason.

    Raises:
        IntegrityError: The log before it is broken; nothing is appended.
        ResourceError: The disk refuses the write.
    """
    last = verify(path)[1]
    entry = {
        "previous": last,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "who": f"{_user()}@{socket.gethostname()}",
        "verb": verb,
        "inputs": inputs or {},
        "decision": decision,
        "reason": reason,
    }
    entry["hash"] = _hash(entry)
    line = json.dumps(entry, ensure_ascii=False, sort_keys=True) + "\n"
    try:
        with path.open("ab") as file:
            _drop_torn_line(path, file.tell())
            file.seek(0, os.SEEK_END)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ResourceError(f"cannot append to {path}: {error.strerror}.") from error


def verify(path: Path) -> tuple[int, str]:
    """Return the number of entries and the hash of the last; a torn last line is left out.

    Raises:
        IntegrityError: An entry was changed, removed or inserted; its line is named.
    """
    if not path.is_file():
        return 0, GENESIS
    last, count = GENESIS, 0
    content = path.read_bytes()
    lines = content.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last \n is torn
        try:
            entry = json.loads(line)
            found = entry.pop("hash")
            intact = entry["previous"] == last and found == _hash(entry)
        except (ValueError, KeyError, TypeError, AttributeError):
            intact = False
        if not intact:
            raise IntegrityError(f"{path}, line {number}: the entry is not what its hash says.")
        last, count = found, number
    return count, last


def _drop_torn_line(path: Path, size: int) -> None:
    """Cut off what a crash left of a half-written last line."""
    content = path.read_bytes()
    if size and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def _hash(entry: dict[str, Any]) -> str:
    text = json.dumps(entry, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
