"""The verb that does everything: run; and what is said at the end of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srinit.cli.options import Common, ConfigFile, verb
from srinit.cli.output import Result
from srinit.cli.progress import RichObserver

if TYPE_CHECKING:
    from srinit.pipeline.result import RunResult

GATE_FAILED = 3


@verb
def run(
    config: ConfigFile,
    common: Common,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew even if an unfinished run fits.")
    ] = False,
) -> Result:
    """Do all of it: baseline, scan, plan, prune, fine-tune, compare, gate, export, report."""
    from srinit.cli.draw import facts_table
    from srinit.config import load_config
    from srinit.pipeline import estimate
    from srinit.pipeline import run as pipeline

    if common.dry_run:
        facts = estimate.whole_run(load_config(config, common.overrides))
        return Result(verb="run", data={"dry_run": True, **facts}, text=facts_table(facts))
    with RichObserver() as observer:
        result = pipeline.run_file(config, common.overrides, observer=observer, fresh=fresh)
    return finished("run", result, config)


def finished(name: str, result: RunResult, config: Path) -> Result:
    """Return what a finished run says, with exit code 3 where a gate failed."""
    from srinit import records

    following = (
        f"open {result.report}; then srinit verify {result.run}"
        if result.passed
        else f"srinit run -c {config} --set plan.flops=0.8   (cut less), or see {result.report}"
    )
    return Result(
        verb=name,
        data=records.plain(result),
        text=result.words(),
        next=following,
        exit_code=0 if result.passed else GATE_FAILED,
    )
