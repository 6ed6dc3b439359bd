"""Files that are never half-written, their hashes, the run folder and the audit log."""

from srinit.store.csvs import csv_text
from srinit.store.files import (
    read_npz,
    replacing,
    sha256_bytes,
    sha256_file,
    write_bytes,
    write_npz,
    write_text,
)
from srinit.store.run_folder import RunFolder

__all__ = [
    "RunFolder",
    "csv_text",
    "read_npz",
    "replacing",
    "sha256_bytes",
    "sha256_file",
    "write_bytes",
    "write_npz",
    "write_text",
]
