"""The whole flow, in order; every stage goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from srinit import records
from srinit.config import Config, load_config
from srinit.finetune.checks import check_trainable, task_loss
from srinit.gates import check_feasible
from srinit.pipeline import (
    cut,
    earlier,
    facts,
    finish,
    inputs,
    judge,
    look,
    operate,
    processes,
    recovery,
    site,
    staged,
    start,
)
from srinit.pipeline.observer import Observer, Silent
from srinit.pipeline.result import SCHEMA, RunResult
from srinit.pipeline.session import Session

Step = tuple[str, Callable[[Session], Any]]
STEPS: tuple[Step, ...] = (
    ("baseline", look.baseline),
    ("inspect", look.inspect),
    ("scan", look.scan),
    ("plan", cut.plan),
    ("prune", cut.prune),
    ("fine-tune", cut.tune),
    ("compare", judge.compare),
    ("shift", judge.shift),
    ("site", site.site),
    ("gate", judge.gate),
    ("cost of ownership", judge.ownership),
    ("export", finish.export),
    ("report", finish.report),
)


IN_STAGES: Step = ("stages", staged.carry_out)
TOGETHER = (  # steps that all processes of a run take
    "baseline", "scan", "plan", "prune", "fine-tune", "stages", "compare", "shift", "site", "gate",
)  # fmt: skip


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
    folder = None if fresh else earlier.matching(config, inputs.inputs_lock(config))
    if folder is not None and folder.was_sealed:
        content = folder.checked().read(start.FINISHED)
        found = records.from_json(RunResult, content, schema=SCHEMA, where=str(folder.path))
        page = str(folder.path / "report" / "report.html")
        return replace(found, run=str(folder.path), report=page, finished_earlier=True)
    with start.begin_config(config, observer or Silent(), fresh=fresh) as session:
        return carry_out(session)


def run_file(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    observer: Observer | None = None,
    fresh: bool = False,
) -> RunResult:
    """Return the result of the whole flow for a config file; see `run`."""
    return run(load_config(path, overrides), observer=observer, fresh=fresh)


def steps(config: Config) -> list[Step]:
    """Return what a run does, in order; in stages, cut and recovery are repeated."""
    if not config.prune.staged:
        return list(STEPS)
    repeated = ("prune", "fine-tune")
    found = [step for step in STEPS if step[0] not in repeated]
    found.insert(1 + [title for title, _ in found].index("plan"), IN_STAGES)
    return found


def check_ahead(session: Session) -> None:
    """Check what would stop the run later: data that is missing, gates that cannot pass.

    Raises:
        ConfigError: A data set is missing, a gate cannot pass on so few test examples, or nothing
            of the network can be trained.
        DataError: The data does not fit the model.
    """
    config = session.config
    session.split("test")
    session.split("validation")
    if not recovery.trains(session):
        session.observer.say(
            "nothing will be trained: the network as it is compensated after the cut is the result."
        )
    elif config.finetune.command is None and config.finetune.fn is None:
        check_trainable(session.model)
        task_loss(session.loss, session.scorer, recovery.recipe(session), session.model)
    facts.data_facts(session)
    session.check_fit()
    check_feasible(
        config.gates.limits(),
        session.counts("test"),
        **session.error_terms,
        confidence=config.compare.confidence,
        shift_examples=config.shift.examples,
        shift_points=len(config.shift.corruptions) * len(config.shift.severities),
    )
    site.check_ahead(session)
    if config.prune.staged:
        staged.check_ahead(session)


def carry_out(session: Session) -> RunResult:
    """Return the result of a session, after every stage that is not done yet.

    Where several processes share the run they scan, plan, compensate, fine-tune and compare
    together; everything else is done by rank 0 while the others wait.
    """
    check_ahead(session)
    todo = steps(session.config)
    last = max(place for place, (title, _) in enumerate(todo) if title in TOGETHER)
    for title, step in todo[: last + 1]:
        session.observer.stage(title)
        if title in TOGETHER:
            step(session)
        else:
            processes.first(session, step)

    def rest(session: Session) -> RunResult:
        if session.rank:
            path = session.path / start.FINISHED
            return session.folder.read_record(RunResult, path, schema=SCHEMA)
        for title, step in todo[last + 1 :]:
            session.observer.stage(title)
            step(session)
        found = finish.result(session)
        operate.log_finished(session)
        return found

    return processes.first(session, rest)
