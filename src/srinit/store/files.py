"""Files that are never half-written, and their hashes."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from srinit.errors import DataError, ResourceError

_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends
TEMPORARY = ".tmp"  # suffix of a file that is being written
MAX_NPZ_BYTES = 64 << 30  # unpacked; more is refused as a decompression bomb


def sha256_bytes(content: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_once(path: Path) -> bytes:
    """Return a file's content, from one descriptor; a link in its place is not followed.

    Raises:
        OSError: It cannot be read, or is a link.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | _BINARY)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that at any moment the old or the new file is there, whole.

    Raises:
        ResourceError: The disk is full or refuses the write; what was there before stays.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new, empty file beside `path`, which takes its name when it is written.

    What was written reaches the disk, and takes the name in one step. A process that is killed
    in between leaves a hidden `.NAME.*.tmp`, which `remove_leftovers` deletes.

    Raises:
        ResourceError: The disk is full or refuses the write; what was there before stays.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.open("xb").close()
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise refused("write", path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def refused(what: str, path: Path, error: OSError) -> ResourceError:
    """Return the error for a write that the system refused, with what to do."""
    reason = error.strerror or str(error)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = "Choose a folder that may be written to."
    elif error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG):
        advice = "Choose another name."
    else:
        advice = "Free space and resume; what was there before is intact."
    return ResourceError(f"cannot {what} {path}: {reason}. {advice}")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; see `write_bytes`."""
    write_bytes(path, text.encode())


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power loss, where the system allows it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # some systems do not open folders
    try:
        os.fsync(descriptor)
    except OSError:
        return  # some network file systems refuse this on folders
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> int:
    """Delete what killed processes left half-written under `folder`; return how many.

    Only for a folder that no other process writes into, such as a locked run folder.
    """
    found = [p for p in folder.rglob(f".*{TEMPORARY}") if p.is_file() and not p.is_symlink()]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays (no objects) to a compressed NPZ file, atomically.

    Equal arrays give equal bytes: the archive holds no times.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{k: np.asarray(v) for k, v in arrays.items()})
    write_bytes(path, buffer.getvalue())


def read_npz(path: Path) -> dict[str, Any]:
    """Return the arrays of an NPZ file; objects are refused, since reading them runs code.

    Raises:
        DataError: The file is missing, damaged, holds objects, or unpacks to absurd sizes.
    """
    try:
        return parse_npz(path.read_bytes(), path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing.") from None


def parse_npz(content: bytes, path: Path) -> dict[str, Any]:
    """Return the arrays of an NPZ file's content; `path` is for messages. See `read_npz`."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > MAX_NPZ_BYTES:
            raise DataError(f"{path} unpacks to {size:,} bytes; that is refused.")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and numpy have errors of their own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "allow_pickle" in reason:
            reason = "it holds Python objects instead of arrays"
        raise DataError(f"{path} is damaged: {reason}.") from None
