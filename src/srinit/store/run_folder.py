"""The run folder: numbered, never overwritten, used by one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from srinit import records
from srinit.errors import IntegrityError, ResourceError, UnsafeError
from srinit.store import audit
from srinit.store.files import sha256_file, write_text

T = TypeVar("T")
SCHEMA = "srinit.run/1"
SUMS = "SHA256SUMS"
LOCK = ".lock"
GROWING = ("audit.jsonl", "scan/observations.jsonl")  # appended to; checked by their own means


class RunFolder:
    """A folder that one run writes into."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, out: Path, name: str) -> RunFolder:
        """Make `out/name`, or `out/name-2` and so on if that exists.

        Raises:
            ResourceError: The folder cannot be made.
        """
        number = 1
        while True:
            path = out / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                number += 1
            except OSError as error:
                raise ResourceError(f"cannot make {path}: {error.strerror}.") from error
        write_text(path / "run.json", json.dumps({"schema": SCHEMA, "name": name}, indent=2) + "\n")
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return an existing run folder.

        Raises:
            UnsafeError: The folder is missing or was not made by srinit.
        """
        try:
            body = json.loads((path / "run.json").read_text("utf-8"))
            ours = isinstance(body, dict) and body.get("schema") == SCHEMA
        except (OSError, ValueError):
            ours = False
        if not ours:
            state = "is no run folder of srinit" if path.exists() else "does not exist"
            raise UnsafeError(f"{path} {state}; nothing is written there. Name one under runs/.")
        return cls(path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out for a while; a dead process's lock is taken over.

        Raises:
            UnsafeError: Another process is at work in this folder.
        """
        with (self.path / LOCK).open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise UnsafeError(
                    f"{self.path} is in use by process {holder}; wait for it, or stop it."
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def write_text(self, path: Path, text: str) -> None:
        """Write a file of this run, atomically."""
        write_text(path, text)

    def write_record(self, path: Path, record: Any, *, schema: str) -> None:
        """Write a record of this run as JSON, atomically."""
        write_text(path, records.to_json(record, schema=schema))

    def read_record(self, cls: type[T], path: Path, *, schema: str) -> T:
        """Return a record of this run.

        Raises:
            ConfigError: The file is not such a record.
        """
        return records.from_json(cls, path.read_bytes(), schema=schema, where=str(path))

    def audit(self, verb: str, decision: str, reason: str = "", inputs: Any = None) -> None:
        """Append to the audit log; see `srinit.store.audit`."""
        audit.append(
            self.path / "audit.jsonl", verb=verb, decision=decision, reason=reason, inputs=inputs
        )

    def files(self) -> list[str]:
        """Return the files of the run whose hashes are kept, relative and sorted."""
        found = (p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file())
        hidden = (SUMS, LOCK, *GROWING)
        return sorted(name for name in found if name not in hidden and "/." not in f"/{name}")

    def seal(self) -> None:
        """Write the hash of every file to `SHA256SUMS` (the format of `sha256sum -c`)."""
        lines = [f"{sha256_file(self.path / name)}  {name}\n" for name in self.files()]
        write_text(self.path / SUMS, "".join(lines))

    def verify(self) -> int:
        """Hash every sealed file again and check the audit log; return how many were checked.

        Raises:
            IntegrityError: The first file that is missing, changed or added is named.
        """
        sums = self.path / SUMS
        if not sums.is_file():
            raise IntegrityError(f"{self.path} has no {SUMS}; the run was not finished.")
        recorded: dict[str, str] = {}
        for line in sums.read_text("utf-8").splitlines():
            digest, _, name = line.partition("  ")
            recorded[name] = digest
        for name, digest in recorded.items():
            path = self.path / name
            if not path.is_file():
                raise IntegrityError(f"{path} is missing.")
            if sha256_file(path) != digest:
                raise IntegrityError(f"{path} was changed since the run was sealed.")
        for name in self.files():
            if name not in recorded:
                raise IntegrityError(f"{self.path / name} was added since the run was sealed.")
        audit.verify(self.path / "audit.jsonl")
        return len(recorded)
