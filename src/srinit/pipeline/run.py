"""The whole flow, in order; every stage goes on where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from srinit.config import Config, load_config
from srinit.gates import check_feasible
from srinit.pipeline import cut, finish, judge, look, operate, staged, start
from srinit.pipeline.observer import Observer, Silent
from srinit.pipeline.result import RunResult
from srinit.pipeline.session import Session
from srinit.sources import describe

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
    ("gate", judge.gate),
    ("cost of ownership", judge.ownership),
    ("export", finish.export),
    ("report", finish.report),
)


IN_STAGES: Step = ("stages", staged.carry_out)


def run(config: Config, *, observer: Observer | None = None, fresh: bool = False) -> RunResult:
    """Return the result of the whole flow, from baseline to report.

    An interrupted run goes on where it stopped, if its config and inputs are the same.

    Args:
        config: What to do; see `srinit.config.load_config`.
        observer: Told what happens.
        fresh: Begin a new run folder even if an unfinished run fits.

    Raises:
        PruneError: What went wrong, with the exit code of its kind. A failed gate raises
            nothing: `RunResult.passed` says so.
    """
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
        ConfigError: A data set is missing, or a gate cannot pass on so few test examples.
        DataError: The data does not fit the model.
    """
    config = session.config
    session.split("test")
    session.split("validation")
    tuned_elsewhere = config.finetune.command is not None
    if config.finetune.epochs > 0 and not tuned_elsewhere:
        session.split("train")
    for line in describe(session.data):
        session.observer.say(line)
    session.check_fit()
    limits = {k: v for k, v in config.gates.model_dump().items() if v is not None}
    check_feasible(
        limits,
        session.counts("test"),
        defect_class=config.data.defect_class,
        confidence=config.compare.confidence,
    )
    if config.prune.staged:
        staged.check_ahead(session)


def carry_out(session: Session) -> RunResult:
    """Return the result of a session, after every stage that is not done yet."""
    check_ahead(session)
    for title, step in steps(session.config):
        session.observer.stage(title)
        step(session)
    found = finish.result(session)
    operate.log_finished(session)
    return found
