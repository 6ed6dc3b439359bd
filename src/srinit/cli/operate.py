"""The verbs of operation: promote, rollback, monitor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from srinit.cli.options import Common, RunPath, verb
from srinit.cli.output import Result
from srinit.cli.progress import RichObserver
from srinit.display import command

if TYPE_CHECKING:
    from srinit.operations.monitoring import Monitored

Reason = Annotated[str, typer.Option(help="Why; goes on record.", show_default=False)]


@verb
def promote(
    run: RunPath,
    common: Common,
    override: Annotated[
        bool, typer.Option("--override", help="Promote although a gate failed; needs --reason.")
    ] = False,
    reason: Reason = "",
) -> Result:
    """Make the pruned network champion of the registry; refused without a passed gate."""
    from srinit import records
    from srinit.operations import promotion
    from srinit.pipeline import start
    from srinit.store import RunFolder

    RunFolder.open(run)
    if common.dry_run:
        text = "would register weights, recipe and gate result, and move the alias champion"
        return Result(verb="promote", data={"dry_run": True, "run": str(run)}, text=text)
    with (
        RichObserver() as observer,
        start.open_run(run, observer, common.overrides, verb="promote", only_acts=True) as runner,
    ):
        observer.step("promote")
        found = promotion.promote(runner, override=override, reason=reason)
    before = f"version {found.replaced}" if found.replaced is not None else "none"
    already = "was champion already" if found.already else f"is champion now (before: {before})"
    return Result(
        verb="promote",
        data={"run": str(run), **records.plain(found)},
        text=f"{found.model}: version {found.version} {already}; gate {found.gate}.\n"
        f"registry: {found.registry}",
        next=command("rollback", run, "--rehearse"),
    )


@verb
def rollback(
    run: RunPath,
    common: Common,
    rehearse: Annotated[
        bool,
        typer.Option("--rehearse", help="Load and try the version before; nothing is moved."),
    ] = False,
    reason: Reason = "",
) -> Result:
    """Return the registry to the version before, after every hash of it was checked."""
    from srinit import records
    from srinit.store import RunFolder

    RunFolder.open(run)
    if common.dry_run:
        text = "would hash the version before, and move the alias champion back to it"
        return Result(verb="rollback", data={"dry_run": True, "run": str(run)}, text=text)
    from srinit.operations import returning

    found = returning.rollback(run, common.overrides, drill=rehearse, reason=reason)
    checked = f"{found.files} files hashed"
    if found.smoke_examples is not None:
        checked += f", {found.smoke_examples} examples answered as when it was registered"
    if found.rehearsed:
        text = (
            f"{found.model}: version {found.target} could take over from version "
            f"{found.champion} ({checked}); nothing was moved."
        )
    else:
        text = f"{found.model}: version {found.target} is champion again ({checked})."
    return Result(
        verb="rollback",
        data={"run": str(run), **records.plain(found)},
        text=text,
        next=command("report", run) if found.rehearsed else command("verify", run),
    )


ALARM = 3


@verb
def monitor(
    run: RunPath,
    common: Common,
    log: Annotated[
        Path | None, typer.Option(help="A prediction log (JSON lines).", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="New data, e.g. folder:today.", show_default=False)
    ] = None,
    auto_rollback: Annotated[
        bool,
        typer.Option("--auto-rollback", help="Roll back after an alarm, where that may help."),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a page that draws the windows, ja and en.", show_default=False),
    ] = None,
    follow: Annotated[
        Path | None,
        typer.Option(help="A log that grows: goes on where it was.", show_default=False),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="With --follow: what is new, then end (for cron).")
    ] = False,
) -> Result:
    """Compare production with the run's own baseline; exit code 3 and the cause on alarm."""
    from srinit.errors import ConfigError
    from srinit.store import RunFolder

    RunFolder.open(run)
    if [log, data, follow].count(None) != 2:
        raise ConfigError("give one of --log preds.jsonl, --data folder:DIR, --follow preds.jsonl.")
    if common.dry_run:
        text = f"would compare {log or data or follow} with the baseline of {run}"
        return Result(verb="monitor", data={"dry_run": True, "run": str(run)}, text=text)
    from srinit.operations import following
    from srinit.operations.monitoring import monitor as watch

    with RichObserver() as observer:
        if follow is not None:
            found = following.follow(
                run, observer, common.overrides, log=follow, once=once, auto_rollback=auto_rollback
            )
        else:
            found = watch(
                run, observer, common.overrides, log=log, data=data, auto_rollback=auto_rollback
            )
    return _monitored(found, run, report)


def _monitored(found: Monitored, run: Path, report: Path | None) -> Result:
    from srinit import records, store
    from srinit.report.monitoring import render_monitoring, words
    from srinit.report.text import Translator

    say = Translator(("en",))
    told = words(found.watch, found.diagnosis, found.lines, found.doubled, say)
    lines = [line.en for line in told.lines]
    for finding in found.watch.windows[-1].findings if found.watch.windows else ():
        sign = "BEYOND" if finding.beyond else "within"
        lines.append(
            f"{finding.quantity}: {finding.effect:.3f}, {sign} its limit {finding.limit:.3f} "
            f"({finding.window_examples} examples against {finding.baseline_examples})"
        )
    lines.append(f"{told.verdict.en}. {' '.join(line.en for line in told.reason)}")
    if told.cause is not None:
        lines.append(f"{told.cause.en}. {' '.join(line.en for line in told.todo)}")
        lines += [f"  {line.en}" for line in told.evidence]
    if found.rolled_back is not None:
        lines.append(f"Rolled back to version {found.rolled_back.target}.")
    if found.rollback_failed:
        lines.append(f"NOT rolled back: {found.rollback_failed}")
    body = records.plain(found)
    if report is not None:
        page = report if report.suffix == ".html" else report / "monitoring.html"
        facts = {name: body[name] for name in ("run", "watched", "order", "lines", "doubled")}
        facts["baseline_examples"] = found.baseline_examples
        store.write_text(page, render_monitoring(facts, found.watch, found.diagnosis))
        lines.append(f"page: {page}")
    following = found.rollback if found.rolled_back is None else command("verify", run)
    return Result(
        verb="monitor",
        data=body,
        text="\n".join(lines),
        next=following if found.alarm else "",
        exit_code=ALARM if found.alarm else 0,
    )
