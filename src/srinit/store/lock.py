"""One process at a time: a lock that the system releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from srinit.errors import UnsafeError
from srinit.store.files import refused


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
    try:
        file = path.open("a+")
    except OSError as error:
        raise refused("lock", path, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(32).strip()
            raise UnsafeError(f"{what} is in use by {_named(holder)}; wait, or stop it.") from None
        except OSError as error:
            raise refused("lock", path, error) from error
        with suppress(OSError):  # on a full disk the lock holds without its number
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield


def _named(holder: str) -> str:
    if not holder.isdigit():
        return "another process"
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return f"a child that process {holder} left behind"
    except (OSError, OverflowError):
        pass  # it exists, but is not ours
    return f"process {holder}"
