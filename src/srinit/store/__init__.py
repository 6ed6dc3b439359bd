"""Files that are never half-written, their hashes, the run folder and the audit log."""

from srinit.store.files import sha256_file, write_bytes, write_text
from srinit.store.run_folder import RunFolder

__all__ = ["RunFolder", "sha256_file", "write_bytes", "write_text"]
