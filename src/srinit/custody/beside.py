"""What is made of a sealed run later lies beside it, in `NAME.after/`: reports, a baseline."""

from __future__ import annotations

from pathlib import Path

from srinit.errors import UnsafeError
from srinit.store import RunFolder


def beside(run: Path) -> Path:
    """Return the folder for what is made of a sealed run later.

    Example:
        >>> beside(Path("runs/digits")).as_posix()
        'runs/digits.after'

    Raises:
        UnsafeError: A run has that name, or it, or one of its folders, is a link.
    """
    run = run if run.name not in ("", "..") else run.resolve()
    place = run.with_name(f"{run.name}.after")
    if (place / "run.json").exists():
        raise UnsafeError(f"{place} is a run itself; nothing is written there. Rename one of them.")
    links = [path for path in (place, *place.glob("*")) if path.is_symlink()]
    if links:
        raise UnsafeError(f"{links[0]} is a link; nothing is written through it. Remove it.")
    return place


def report_folder(folder: RunFolder) -> Path:
    """Return where a report of a run goes: into the run until it is sealed, then beside it."""
    if not folder.was_sealed:
        return folder.path / "report"
    place = beside(folder.path)
    number = 1
    while (place / f"report-{number:02d}").exists():
        number += 1
    return place / f"report-{number:02d}"
