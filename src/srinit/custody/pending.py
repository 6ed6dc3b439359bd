"""A change of a run that was begun: written down whole before anything moves, and always finished.

`settle` writes what is to be done into one hidden file, does it, and removes the file. After a kill
the next command that opens the run does the rest first, so that new settings never stand beside
what was made by the old ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from srinit import records
from srinit.custody import overrides
from srinit.custody.changing import Change, archive
from srinit.custody.depends import Parts
from srinit.custody.overrides import Override
from srinit.records import record
from srinit.store import RunFolder
from srinit.store.files import write_text
from srinit.store.seal import refuse_sealed

FILE, SCHEMA = ".change.json", "srinit.pending/1"
LOCK = "inputs.lock.json"


@record
class Pending:
    """What is to be done to a run."""

    verb: str
    overrides: tuple[Override, ...]  # all of the run, the new ones last
    num_new: int
    redone: tuple[str, ...]  # parts
    target: int  # number of the folder below `superseded`
    inputs: dict[str, str]  # hashes of input files that are named for the first time


def settle(folder: RunFolder, change: Change, parts: Parts, inputs: Mapping[str, str]) -> None:
    """Put a change on record in the run itself, and set aside what it makes stale.

    Args:
        folder: The run, locked.
        change: What is done.
        parts: What rests on what.
        inputs: Hashes of the input files that the config names now.

    Raises:
        UnsafeError: The run was sealed meanwhile.
    """
    if not change:
        return
    refuse_sealed(folder.path, f"what srinit {change.verb} changes")
    recorded = json.loads((folder.path / LOCK).read_text("utf-8"))
    old = folder.path / "superseded"
    pending = Pending(
        verb=change.verb,
        overrides=(*overrides.of_run(folder.path), *change.overrides),
        num_new=len(change.overrides),
        redone=tuple(change.redone),
        target=len(list(old.iterdir())) + 1 if old.is_dir() else 1,
        inputs={name: digest for name, digest in inputs.items() if name not in recorded},
    )
    write_text(folder.path / FILE, records.to_json(pending, schema=SCHEMA))
    finish(folder, parts)


def is_pending(path: Path) -> bool:
    """Return whether a change of a run was begun and not finished."""
    return (path / FILE).is_file()


def finish(folder: RunFolder, parts: Parts) -> None:
    """Do what is left of a change that was begun; nothing if there is none.

    Args:
        folder: The run, locked.
        parts: What rests on what.

    Raises:
        UnsafeError: The run is sealed.
    """
    path = folder.path / FILE
    if not path.is_file():
        return
    refuse_sealed(folder.path, "a change that was begun")
    pending = records.from_json(Pending, path.read_bytes(), schema=SCHEMA, where=str(path))
    if pending.redone:
        archive(folder, pending.redone, parts, pending.target)
    if pending.num_new and overrides.of_run(folder.path) != pending.overrides:
        new = pending.overrides[-pending.num_new :]
        folder.audit(
            "override",
            "; ".join(each.words() for each in new),
            reason=f"srinit {pending.verb}",
            inputs={"verb": pending.verb},
        )
        folder.write_text(folder.path / overrides.FILE, overrides.to_json(pending.overrides))
    if pending.inputs:
        recorded = json.loads((folder.path / LOCK).read_text("utf-8"))
        body = json.dumps({**recorded, **pending.inputs}, indent=2, ensure_ascii=False)
        folder.write_text(folder.path / LOCK, body + "\n")
    folder.cover()
    path.unlink()
