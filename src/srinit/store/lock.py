"""One process at a time: locks that the system releases when their holder dies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from srinit.errors import UnsafeError
from srinit.store.files import refused

POLL = 0.005  # seconds between two tries


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` for a while; the lock of a dead process is free.

    Args:
        path: The file; it stays, and holds the number of the last process that had the lock.
        what: What is locked, for the message.

    Raises:
        UnsafeError: Another process has it.
        ResourceError: The file cannot be made.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UnsafeError(f"{what} is in use by {_holder(path)}; wait, or stop it.") from None
    except OSError as error:
        raise refused("lock", path, error) from error
    try:
        with suppress(OSError):  # on a full disk the lock holds without its number
            path.write_text(str(os.getpid()), "utf-8")
        yield
    finally:
        lock.release()


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for a moment, after whoever has it now.

    Raises:
        OSError: The file cannot be made.
    """
    with FileLock(path).acquire(poll_interval=POLL):
        yield


def _holder(path: Path) -> str:
    try:
        number = path.read_text("utf-8")[:32].strip()
    except (OSError, ValueError):  # Windows keeps a locked file from its readers
        number = ""
    if not number.isdigit():
        return "another process"
    if os.name != "posix":  # signal 0 asks nothing there: it interrupts
        return f"process {number}"
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return f"a child that process {number} left behind"
    except (OSError, OverflowError):
        pass  # it exists, but is not ours
    return f"process {number}"
