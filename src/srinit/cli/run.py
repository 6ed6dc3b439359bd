"""The verb that does everything: run; and what is said at the end of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srinit.cli.foresee import foreseen
from srinit.cli.options import Common, ConfigFile, verb
from srinit.cli.output import Result
from srinit.cli.progress import RichObserver
from srinit.cli.verdict import Lang, language, verdict_of
from srinit.display import command, quoted

if TYPE_CHECKING:
    from srinit.runs.result import RunResult

GATE_FAILED = 3


@verb
def run(
    config: ConfigFile,
    common: Common,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew even if an unfinished run fits.")
    ] = False,
    lang: Lang = None,
) -> Result:
    """Do all of it: baseline, scan, plan, prune, fine-tune, compare, gate, export, report."""
    from srinit.pipeline import run as pipeline

    language(lang)  # refused before the work, not after it
    if common.dry_run:
        return foreseen("run", config, common)
    with RichObserver() as observer:
        result = pipeline.run_file(config, common.overrides, observer=observer, fresh=fresh)
    return finished("run", result, config, lang)


def finished(name: str, result: RunResult, config: Path, lang: str | None = None) -> Result:
    """Return what a finished run says, with exit code 3 where a gate failed."""
    from srinit import records

    following = (
        f"open {quoted(result.report)}; then {command('verify', Path(result.run))}"
        if result.passed
        else f"open {quoted(result.report)}. Another recipe that is judged on the same test data "
        "is selection on test data: choose it on validation data, and judge it on test data that "
        "no run has read (data.test)"
    )
    words, decision = verdict_of(Path(result.run), lang)
    return Result(
        verb=name,
        data={**records.plain(result), "decision": decision},
        text=result.words(),
        first=_drawn(Path(result.run), result.round),
        extra=[f"\n{words}"],
        next=following,
        exit_code=0 if result.passed else GATE_FAILED,
    )


def _drawn(run: Path, number: int) -> list[Any]:
    """Return what a finished run found, as the single verbs draw it."""
    from srinit.cli.render import comparison_table, field_tables, gate_table, robustness_table
    from srinit.cli.tables import plan_table, sensitivity_table
    from srinit.runs import RunFiles, artifacts
    from srinit.store import RunFolder

    files = RunFiles(RunFolder.open(run), number)
    plan = files.get(artifacts.ROUND_PLAN) or files.read(artifacts.PLAN)
    shift, site = files.get(artifacts.SHIFT), files.get(artifacts.SITE)
    return [
        sensitivity_table(files.read(artifacts.SENSITIVITY)),
        plan_table(plan),
        comparison_table(files.read(artifacts.COMPARISON)),
        gate_table(files.read(artifacts.GATES)),
        *([robustness_table(shift)] if shift is not None else []),
        *(field_tables(site, apart=True) if site is not None else []),
    ]
