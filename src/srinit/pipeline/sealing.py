"""Seals a run that was made verb by verb, and signs seals."""

from __future__ import annotations

import json
from pathlib import Path

from srinit.custody import signature
from srinit.errors import ConfigError
from srinit.pipeline import cut, finish
from srinit.pipeline.result import RunResult
from srinit.pipeline.session import Session
from srinit.records import record
from srinit.store import RunFolder

NEEDED = (
    ("plan.json", "plan"),
    ("{stage}/tune.json", "finetune"),
    ("{stage}/gate.json", "compare"),
    ("export/export.json", "export"),
    ("report/report.html", "report"),
)


@record
class Sealed:
    """What a seal covers, and who signed it."""

    files: int
    root: str
    signed_by: str  # fingerprint of the key; empty: not signed


def seal(session: Session) -> RunResult:
    """Return the result of a run whose steps are all done, and seal it.

    Raises:
        ConfigError: A step is missing; the verb that takes it is named.
    """
    stage = cut.stage_folder(session).relative_to(session.path).as_posix()
    for pattern, verb in NEEDED:
        name = pattern.format(stage=stage)
        if not (session.path / name).is_file():
            raise ConfigError(
                f"{session.path} cannot be sealed: it holds no {name} yet; srinit {verb} "
                f"{session.path} makes it."
            )
    return finish.result(session)


def sign(path: Path, key: Path | None) -> Sealed:
    """Return what the seal of a run covers, after all of it was hashed; signed, if there is a key.

    Raises:
        IntegrityError: A file is not what was sealed.
    """
    folder = RunFolder.open(path)
    found = folder.checked()
    signed_by = ""
    if key is not None:
        with folder.lock():
            folder.audit("sign", f"the seal {found.root}", inputs={"root": found.root})
            signed_by = signature.sign(found, key).key
    return Sealed(files=len(found.digests), root=found.root, signed_by=signed_by)


def passed(path: Path) -> bool:
    """Return whether a sealed run passed."""
    return bool(json.loads((path / "result.json").read_bytes()).get("passed"))
