"""One hash of the data behind a report, so that a signature belongs to something."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from srinit.report.data import DataFile
from srinit.store import sha256_file

SIGNED = "seal.sig.json"  # written after the seal, and so after every report
KEPT = (".json", ".yaml", ".csv", ".npz", ".safetensors", ".onnx", ".pt2")


def data_files(run: Path) -> tuple[DataFile, ...]:
    """Return the data files of the run with their hashes; what is made from them is left out."""
    found = []
    for path in sorted(run.rglob("*")):
        relative = path.relative_to(run)
        derived = relative.parts[0] == "report" or relative.as_posix() in ("result.json", SIGNED)
        hidden = derived or any(part.startswith(".") for part in relative.parts)
        if path.is_file() and not hidden and path.suffix in KEPT:
            size = path.stat().st_size
            found.append(
                DataFile(path=relative.as_posix(), sha256=sha256_file(path), size_bytes=size)
            )
    return tuple(found)


def fingerprint(files: Sequence[DataFile]) -> str:
    """Return the SHA-256 of the list of files and their hashes, as `sha256sum` writes it.

    The report cannot hold the seal of its run, which covers the report itself; this hash covers
    all that the report was made from, and `srinit verify` shows the same.
    """
    lines = sorted(f"{file.sha256}  {file.path}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
