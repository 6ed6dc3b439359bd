"""The run folder: numbered, never overwritten, used by one process at a time, every file hashed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from srinit import records
from srinit.errors import ConfigError, DataError, IntegrityError, ResourceError, UnsafeError
from srinit.store import audit
from srinit.store import seal as sealing
from srinit.store.files import (
    parse_npz,
    read_once,
    refused,
    remove_leftovers,
    sha256_file,
    sync_folder,
    write_bytes,
    write_npz,
    write_text,
)
from srinit.store.lock import in_turn, locked
from srinit.store.seal import AUDIT, OUTSIDE, SUMS, Seal, read_checked, refuse_inside, refuse_sealed
from srinit.store.sums import check_file, read_sums, write_sums
from srinit.store.tree import kinds, no_link, no_links, remove_empty

T = TypeVar("T")
SCHEMA = "srinit.run/1"
HEAD, LOCK = "run.json", ".lock"
# Appended to, written again or removed until the run is sealed; in every folder of a round, too.
GROWING = ("scan/observations.jsonl", "training.safetensors")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAX_JSON_BYTES = 256 << 20
MAX_RUNS = 100_000  # of one name


class RunFolder:
    """A folder that one run writes into until it is sealed; from then on it is never changed.

    Every file written through it, and every file found beside it when a record is written, has
    its hash in `SHA256SUMS`, and is checked against it when it is read through it.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls, out: Path, name: str, fill: Callable[[RunFolder], None] | None = None
    ) -> RunFolder:
        """Make `out/name`, or `out/name-2` and so on if that exists.

        The folder appears in one step with everything that `fill` writes; a process that is
        killed before leaves only a hidden folder, which the next call removes.

        Args:
            out: Folder of the runs.
            name: Of the run.
            fill: Writes the first files into the folder before it gets its name.

        Raises:
            ConfigError: The name is no plain file name.
            UnsafeError: `out` lies in a run that is sealed.
            ResourceError: The folder cannot be made.
        """
        if NAME.fullmatch(name) is None:
            raise ConfigError(f"{name!r} cannot be the name of a run; use letters, digits, . _ -")
        refuse_inside(out)
        try:
            out.mkdir(parents=True, exist_ok=True)
            with in_turn(out / LOCK):
                return cls._made(out, name, fill)
        except OSError as error:
            if not out.is_dir() and out.exists():
                raise ResourceError(f"cannot make {out / name}: {out} is a file.") from None
            raise refused("make", out / name, error) from error

    @classmethod
    def _made(cls, out: Path, name: str, fill: Callable[[RunFolder], None] | None) -> RunFolder:
        new = out / f".{name}.new"
        if new.exists():
            shutil.rmtree(new)
        new.mkdir()
        write_text(new / HEAD, json.dumps({"schema": SCHEMA, "name": name}, indent=2) + "\n")
        if fill is not None:
            fill(cls(new))
        for number in range(1, MAX_RUNS):
            path = out / (name if number == 1 else f"{name}-{number}")
            if not path.exists() and not path.is_symlink():
                new.rename(path)
                sync_folder(out)
                return cls(path)
        raise ResourceError(f"{out} holds {MAX_RUNS} runs named {name}; choose another name.")

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Return an existing run folder.

        Raises:
            UnsafeError: The folder is missing or was not made by srinit.
        """
        head = path / HEAD
        try:
            small = head.is_file() and head.stat().st_size < MAX_JSON_BYTES
            body = json.loads(head.read_text("utf-8")) if small else None
            ours = isinstance(body, dict) and body.get("schema") == SCHEMA
        except (OSError, ValueError, RecursionError):
            ours = False
        if not ours:
            state = (
                f"is no run folder of srinit (by its {HEAD})" if _exists(path) else "does not exist"
            )
            raise UnsafeError(f"{path} {state}; nothing is written there. Name one under runs/.")
        return cls(path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out for a while; a dead process's lock is taken over.

        What a killed process left half-written is deleted. Whoever holds it may write anywhere in
        the folder, so a link in it is refused: what is written there would land elsewhere.

        Raises:
            IntegrityError: The folder holds a link.
            UnsafeError: Another process is at work in this folder.
        """
        no_links(self.path)
        with locked(self.path / LOCK, str(self.path)):
            remove_leftovers(self.path)
            yield

    def write_text(self, path: Path, text: str) -> None:
        """Write a file of this run, atomically, and record its hash."""
        self.write_bytes(path, text.encode())

    def write_bytes(self, path: Path, content: bytes) -> None:
        """Write a file of this run, atomically, and record its hash.

        Raises:
            ResourceError: The disk is full; what was there before stays.
            IntegrityError: The file, or a folder above it, is a link.
            UnsafeError: The run is sealed.
        """
        name = self._name(path)
        refuse_sealed(self.path, name)
        self.refuse_links(path)
        sums = read_sums(self.path / SUMS)
        if sums.pop(name, None) is not None:  # between the two writes no hash is better than a
            write_sums(self.path / SUMS, sums)  # wrong one
        write_bytes(path, content)
        self._record([name])

    def write_npz(self, path: Path, arrays: Mapping[str, Any]) -> None:
        """Write arrays of this run, atomically, and record the file's hash."""
        refuse_sealed(self.path, self._name(path))
        self.refuse_links(path)
        write_npz(path, arrays)
        self._record([self._name(path)])

    def write_record(self, path: Path, record: Any, *, schema: str) -> None:
        """Write a record of this run as JSON, atomically.

        A record is the last thing a step writes, so the hashes of all files that the step left
        are recorded with it.
        """
        self.write_text(path, records.to_json(record, schema=schema))
        self.cover()

    def read_record(self, cls: type[T], path: Path, *, schema: str) -> T:
        """Return a record of this run, its hash checked.

        Raises:
            IntegrityError: The file is not what was written.
            ConfigError: The file is not there yet, or is not such a record.
        """
        return records.from_json(cls, self.read_bytes(path), schema=schema, where=str(path))

    def read_bytes(self, path: Path) -> bytes:
        """Return a file of this run, its hash checked.

        Raises:
            IntegrityError: The file is not what was written.
            ConfigError: The file is not there yet, or absurdly large.
        """
        name = self._name(path)
        no_link(self.path, name)
        digest = read_sums(self.path / SUMS).get(name)
        if digest is None and not path.is_file():
            raise ConfigError(f"{self.path} holds no {name} yet; run the step that writes it.")
        if path.is_file() and path.stat().st_size > MAX_JSON_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_JSON_BYTES:,} bytes.")
        return self._content(name, digest)

    def read_npz(self, path: Path) -> dict[str, Any]:
        """Return arrays of this run, the file's hash checked.

        Raises:
            IntegrityError: The file is not what was written.
            DataError: It is missing or damaged.
        """
        name = self._name(path)
        digest = read_sums(self.path / SUMS).get(name)
        if digest is None and not path.is_file():
            raise DataError(f"{path} is missing.")
        return parse_npz(self._content(name, digest), path)

    def _content(self, name: str, digest: str | None) -> bytes:
        """Return a file, read once; what is returned is what was checked."""
        if digest is not None:
            return read_checked(self.path, name, digest)
        no_link(self.path, name)
        return read_once(self.path / name)

    def has(self, path: Path) -> bool:
        """Return whether a file of this run is there.

        Raises:
            IntegrityError: It is gone although its hash is recorded, or the way to it is a link.
        """
        self.refuse_links(path)
        name = self._name(path)
        if path.is_file():
            return True
        if name in read_sums(self.path / SUMS):
            raise IntegrityError(
                f"{path} is missing, but its hash is recorded. Restore it, or begin a new run."
            )
        return False

    def check(self, path: Path) -> None:
        """Raise `IntegrityError` if a file's hash is recorded and is another."""
        name = self._name(path)
        digest = read_sums(self.path / SUMS).get(name)
        if digest is not None:
            check_file(self.path, name, digest)

    def check_recorded(self, *, besides: Path) -> None:
        """Check every recorded hash and the audit log; a folder that is made anew is left out.

        Raises:
            IntegrityError: The first file that is missing or changed is named.
        """
        place = self._name(besides)
        audit.read(self.path / AUDIT)
        for name, digest in read_sums(self.path / SUMS).items():
            if not _under(name, place):
                check_file(self.path, name, digest)

    def cover(self) -> None:
        """Record the hashes of the files that have none yet, but for those that still change."""
        known = read_sums(self.path / SUMS)
        self._record([name for name in self.files() if name not in known and not _is_growing(name)])

    def forget(self, is_moved: Callable[[str], bool]) -> None:
        """Drop the hashes of files that are about to be moved or made anew; `cover` comes after.

        A hash without its file is a loss: where a process is killed between the two, no hash is
        better.

        Args:
            is_moved: Whether a file, by its name in the run, is one of them.
        """
        sums = read_sums(self.path / SUMS)
        kept = {name: digest for name, digest in sums.items() if not is_moved(name)}
        if kept != sums:
            refuse_sealed(self.path, SUMS)
            write_sums(self.path / SUMS, kept)

    def record(self, path: Path) -> None:
        """Record the hash of a file, or of every file under a folder, that was written anew.

        For outputs that may be made again, such as the report. Files of the folder that are gone
        lose their hash.
        """
        place, known = self._name(path), read_sums(self.path / SUMS)
        gone = [n for n in known if _under(n, place) and not (self.path / n).is_file()]
        self._record([n for n in self.files() if _under(n, place)], gone=gone)

    def _record(self, names: Sequence[str], *, gone: Sequence[str] = ()) -> None:
        if not names and not gone:
            return
        refuse_sealed(self.path, ", ".join([*names, *gone][:3]))
        for name in names:
            no_link(self.path, name)
        fresh = {name: sha256_file(self.path / name) for name in names}
        known = {n: d for n, d in read_sums(self.path / SUMS).items() if n not in gone}
        write_sums(self.path / SUMS, {**known, **fresh})

    def refuse_links(self, *paths: Path) -> None:
        """Raise where a file cannot be written, made or moved, because the way to it is a link.

        Raises:
            IntegrityError: A path, or a folder above it inside the run, is a link.
        """
        for path in paths:
            no_link(self.path, self._name(path))

    def _name(self, path: Path) -> str:
        try:
            return path.absolute().relative_to(self.path.absolute()).as_posix()
        except ValueError:
            raise UnsafeError(f"{path} is no file of the run {self.path}.") from None

    def digests(self, *paths: Path) -> dict[str, str]:
        """Return the hashes of files of this run, by name; for the inputs of an audit entry."""
        known = read_sums(self.path / SUMS)
        names = [self._name(path) for path in paths if path.is_file()]
        return {name: known.get(name) or sha256_file(self.path / name) for name in names}

    def audit(self, verb: str, decision: str, reason: str = "", inputs: Any = None) -> None:
        """Append to the audit log; see `srinit.store.audit`."""
        no_link(self.path, AUDIT)
        audit.append(self.path / AUDIT, verb=verb, decision=decision, reason=reason, inputs=inputs)

    def files(self) -> list[str]:
        """Return the files of the run whose hashes are kept, relative and sorted."""
        found = (p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.is_file())
        return sorted(n for n in found if n not in OUTSIDE and "/." not in f"/{n}")

    def seal(self) -> None:
        """Record the hash of every file, and the root of them all in the audit log.

        Files whose hash is recorded already must still have it: a seal never covers up a change.
        From then on nothing in the folder is changed; the log alone grows.

        Raises:
            IntegrityError: A file was changed since it was written, is missing, or is a link.
            UnsafeError: The run is sealed already.
        """
        refuse_sealed(self.path, "another seal")
        sums = read_sums(self.path / SUMS)
        for name, digest in sums.items():
            check_file(self.path, name, digest)
        remove_empty(self.path)
        names = kinds(self.path, leave_out=OUTSIDE)
        sums |= {n: sha256_file(self.path / n) for n in names if n not in sums}
        write_sums(self.path / SUMS, sums)
        inputs = sealing.entry_inputs(self.path, sums, sha256_file(self.path / SUMS))
        self.audit("seal", "sealed", inputs=inputs)

    @property
    def was_sealed(self) -> bool:
        """Whether the run was finished: its log tells of a seal."""
        return sealing.last_seal(audit.read(self.path / AUDIT))[1] is not None

    def verify(self) -> int:
        """Hash every sealed file again and check the audit log; return how many were checked.

        Raises:
            IntegrityError: The first file that is missing, changed or added is named.
        """
        return len(self.checked().digests)

    def checked(self) -> Seal:
        """Return the seal, after everything was hashed again; see `srinit.store.seal`."""
        return sealing.check(self.path)


def _is_growing(name: str) -> bool:
    return f"/{name}".endswith(tuple(f"/{each}" for each in GROWING))


def _under(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}/")


def _exists(path: Path) -> bool:
    """Return whether there is something; False also for names that no system allows."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
