"""Seals a run that was made verb by verb, and signs seals."""

from __future__ import annotations

import json
from pathlib import Path

from srinit.custody import signature
from srinit.display import command
from srinit.errors import ConfigError
from srinit.pipeline.runner import Runner
from srinit.records import record
from srinit.report import load_report_input, write_report
from srinit.runs import artifacts
from srinit.runs.result import RunResult
from srinit.store import RunFolder

NEEDED = (
    (artifacts.PLAN, "plan"),
    (artifacts.TUNE_LOG, "finetune"),
    (artifacts.GATES, "compare"),
    (artifacts.EXPORTS, "export"),
    (artifacts.REPORT, "report"),
)


@record
class Sealed:
    """What a seal covers, and who signed it."""

    files: int
    root: str
    signed_by: str  # fingerprint of the key; empty: not signed


def seal(runner: Runner) -> RunResult:
    """Return the result of a run whose steps are all done, and seal it.

    Raises:
        ConfigError: A step is missing; the verb that takes it is named.
    """
    for artifact, verb in NEEDED:
        if not runner.files.has(artifact):
            raise ConfigError(
                f"{runner.path} cannot be sealed: it holds no {runner.files.name(artifact)} yet; "
                f"{command(verb, runner.path)} makes it."
            )
    _report_anew(runner)
    return finished(runner)


def _report_anew(runner: Runner) -> None:
    """Write the page once more, from all that is there by now: it may be older than the rest."""
    if runner.folder.was_sealed:
        return
    place = runner.files.path(artifacts.REPORT).parent
    languages = tuple(runner.config.report.languages)
    write_report(load_report_input(runner.path), place, languages=languages)
    runner.folder.record(place)
    runner.folder.audit("report", "written")


def finished(runner: Runner) -> RunResult:
    """Return the result of a run, written down, and seal the run."""
    found = runner.get(artifacts.RESULT)
    if not runner.folder.was_sealed:
        runner.folder.seal()
    return found


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
