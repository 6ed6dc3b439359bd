"""The audit log: append-only JSON lines, each holding the hash of the one before.

Changing, removing, inserting or reordering entries breaks the chain, and `read` names the line.
What the chain alone cannot show is that the newest entries were cut off; a sealed run therefore
must hold its seal as an entry.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from srinit.errors import IntegrityError
from srinit.records import plain, record
from srinit.store.files import refused
from srinit.store.lock import in_turn

GENESIS = "0" * 64


@record
class AuditLog:
    """What an audit log holds, its chain checked."""

    entries: tuple[dict[str, Any], ...]
    head: str  # hash of the last entry
    torn: bool  # a half-written line follows, left by a crash; it is no entry


def append(path: Path, *, verb: str, decision: str, reason: str = "", inputs: Any = None) -> None:
    """Append one entry: who, when, which verb, inputs by hash, decision, reason.

    The entry has reached the disk when this returns. Two processes may append at once.

    Raises:
        IntegrityError: The log before it is broken; nothing is appended.
        ResourceError: The disk refuses the write; the log is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with in_turn(path.with_name(f".{path.name}.lock")), path.open("a+b") as file:
            _append(path, file, verb, decision, reason, inputs)
    except OSError as error:
        raise refused("append to", path, error) from error


def _append(path: Path, file: BinaryIO, verb: str, decision: str, reason: str, inputs: Any) -> None:
    file.seek(0)
    content = file.read()
    log = _parse(content, path)
    entry = {
        "previous": log.head,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "who": f"{_user()}@{socket.gethostname()}",
        "verb": verb,
        "inputs": plain(inputs) if inputs is not None else {},
        "decision": decision,
        "reason": reason,
    }
    entry["hash"] = _hash(entry)
    end = content.rfind(b"\n") + 1  # a torn line behind it is dropped
    file.truncate(end)
    try:
        file.write((json.dumps(entry, ensure_ascii=False, sort_keys=True) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
    except OSError:
        os.truncate(path, end)
        raise


def read(path: Path) -> AuditLog:
    """Return the entries of a log, after checking every hash; a missing log is empty.

    Raises:
        IntegrityError: An entry was changed, removed or inserted; its line is named.
    """
    return _parse(path.read_bytes() if path.is_file() else b"", path)


def verify(path: Path) -> tuple[int, str]:
    """Return the number of entries and the hash of the last; a torn last line is left out.

    Raises:
        IntegrityError: An entry was changed, removed or inserted; its line is named.
    """
    log = read(path)
    return len(log.entries), log.head


def _parse(content: bytes, path: Path) -> AuditLog:
    last, entries = GENESIS, []
    *lines, rest = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            found = entry.pop("hash")
            intact = entry["previous"] == last and found == _hash(entry)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            intact = False
        if not intact:
            raise IntegrityError(
                f"{path}, line {number}: the entry is not what its hash says, or does not follow "
                "the one before; the log was changed by hand or damaged."
            )
        last = found
        entries.append({**entry, "hash": found})
    return AuditLog(entries=tuple(entries), head=last, torn=bool(rest))


def _hash(entry: dict[str, Any]) -> str:
    text = json.dumps(entry, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # Windows has no `pwd`
        return "unknown"
