"""The proof-of-concept template that `srinit init` writes."""

from __future__ import annotations

from pathlib import Path

from srinit.errors import UnsafeError
from srinit.store import write_text

FILES = Path(__file__).parent / "files"


def write_template(folder: Path) -> list[Path]:
    """Write the template into `folder` and return its files.

    Raises:
        UnsafeError: A file of the template is there already; nothing is overwritten.
    """
    sources = sorted(path for path in FILES.iterdir() if path.is_file())
    taken = [path.name for path in sources if (folder / path.name).exists()]
    if taken:
        raise UnsafeError(f"{folder} already holds {', '.join(taken)}; name another folder.")
    for path in sources:
        write_text(folder / path.name, path.read_text("utf-8"))
    (folder / "data").mkdir(exist_ok=True)
    return [folder / path.name for path in sources]
