"""The whole flow, in order; every step goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from srinit.config import Config, load_config
from srinit.delivery import folder
from srinit.observer import Observer, Silent
from srinit.pipeline import ahead, earlier, registries, rounds, sealing, start
from srinit.pipeline.runner import Runner
from srinit.runs import Artifact, RunFiles, artifacts, processes
from srinit.runs.inputs import inputs_lock
from srinit.runs.result import RunResult

STEPS: tuple[tuple[str, Artifact[Any]], ...] = (
    ("baseline", artifacts.BASELINE),
    ("inspect", artifacts.UNITS),
    ("", artifacts.FOLDER_OUTLOOK),
    ("scan", artifacts.SENSITIVITY),
    ("plan", artifacts.PLAN),
    ("", artifacts.PLAN_TIMES),
    ("", artifacts.REFERENCE_SCORES),
    ("", artifacts.PLANNED_FOLDER),
    ("prune", artifacts.CUT),
    ("fine-tune", artifacts.TUNE_LOG),
    ("", artifacts.READINGS),
    ("compare", artifacts.COMPARISON),
    ("", artifacts.PRECISION),
    ("shift", artifacts.SHIFT),
    ("site", artifacts.SITE),
    ("gate", artifacts.GATES),
    ("inference cost", artifacts.OWNERSHIP),
    ("export", artifacts.EXPORTS),
    ("hugging face", artifacts.FOLDER),
    ("int8", artifacts.INT8),
    ("alternatives", artifacts.ALTERNATIVES),
    ("package", artifacts.PACKAGE),
    ("report", artifacts.REPORT),
)
WANTED: dict[
    str, Callable[[Config], bool]
] = {  # steps that are taken only if the config wants them
    "int8": lambda config: config.export.int8,
    "alternatives": lambda config: config.alternatives.measure,
    "package": lambda config: config.export.package,
}
ALONE = ("inference cost", "export", "hugging face", *WANTED, "report")
"""Rank 0 takes them while the others wait."""


def run(config: Config, *, observer: Observer | None = None, fresh: bool = False) -> RunResult:
    """Return the result of the whole flow, from baseline to report.

    An interrupted run goes on where it stopped, if its config and inputs are the same. One that
    is finished is hashed again, and its result is returned.

    Args:
        config: What to do; see `srinit.config.load_config`.
        observer: Told what happens.
        fresh: Begin a new run folder even if an unfinished run fits.

    Raises:
        PruneError: What went wrong, with the exit code of its kind. A failed gate raises
            nothing: `RunResult.passed` says so.
    """
    made = None if fresh else earlier.matching(config, inputs_lock(config))
    if made is not None and made.was_sealed:
        made.checked()
        found = RunFiles(made).read(artifacts.RESULT)
        page = str(made.path / "report" / "report.html")
        return replace(found, run=str(made.path), report=page, finished_earlier=True)
    with start.create_run_of(config, observer or Silent(), fresh=fresh) as runner:
        return carry_out(runner)


def run_file(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    observer: Observer | None = None,
    fresh: bool = False,
) -> RunResult:
    """Return the result of the whole flow for a config file; see `run`."""
    return run(load_config(path, overrides), observer=observer, fresh=fresh)


def _has_work(runner: Runner, title: str) -> bool:
    """Return whether a step has anything to do; what has not is no line of the progress."""
    if title == "shift":
        return runner.config.shift.examples > 0
    if title == "site":
        return bool(runner.config.data.site)
    if title == "hugging face":
        return folder.is_wanted(runner.resources.model, runner.config.export)
    return True


def carry_out(runner: Runner) -> RunResult:
    """Return the result of a run, after every step that is not done yet.

    Where several processes share the run they scan, plan, compensate, fine-tune and compare
    together; everything else is done by rank 0 while the others wait.
    """
    ahead.check(runner)
    for title, artifact in STEPS:
        if title in ALONE:
            continue
        if runner.config.prune.in_rounds and artifact in (artifacts.CUT, artifacts.TUNE_LOG):
            if artifact == artifacts.CUT:
                runner.observer.step("rounds")
                rounds.carry_out(runner)
            continue
        if title and _has_work(runner, title):
            runner.observer.step(title)
        runner.get(artifact)

    def rest(runner: Runner) -> RunResult:
        if runner.rank:
            return runner.files.read(artifacts.RESULT)
        for title, artifact in STEPS:
            if title in WANTED and not WANTED[title](runner.config):
                continue
            if title in ALONE:
                if _has_work(runner, title):
                    runner.observer.step(title)
                runner.get(artifact)
        found = sealing.finished(runner)
        registries.log_finished(runner)
        return found

    return processes.on_rank_zero(runner, rest)
