"""The verbs that only look: inspect, baseline, scan."""

from __future__ import annotations

from srinit.cli.foresee import foreseen
from srinit.cli.options import Common, ConfigFile, verb
from srinit.cli.output import Result
from srinit.cli.progress import RichObserver
from srinit.display import command


@verb
def inspect(config: ConfigFile, common: Common) -> Result:
    """Show the units: which can be removed, which are locked and why."""
    from srinit import records
    from srinit.cli.render import unit_tree
    from srinit.pipeline import start
    from srinit.runs import artifacts

    if common.dry_run:
        return foreseen("inspect", config, common)
    with RichObserver() as observer, start.create_run(config, common.overrides, observer) as runner:
        observer.step("inspect")
        units = runner.get(artifacts.UNITS)
        data = runner.value("told_data")
        outlooks = runner.resources.outlooks
    return Result(
        verb="inspect",
        data={
            "run": str(runner.path),
            "data": records.plain(data),
            "can_show": [records.plain(outlook) for outlook in outlooks],
            "units": records.plain(units),
        },
        text=unit_tree(units),
        extra=["\n".join(outlook.sentence for outlook in outlooks)] if outlooks else [],
        next=command("scan", "-c", config),
    )


@verb
def baseline(config: ConfigFile, common: Common) -> Result:
    """Measure the unpruned network: accuracy, per-class errors, latency, size."""
    from srinit import records
    from srinit.cli.render import baseline_table
    from srinit.pipeline import start
    from srinit.runs import artifacts

    if common.dry_run:
        return foreseen("baseline", config, common)
    with RichObserver() as observer, start.create_run(config, common.overrides, observer) as runner:
        observer.step("baseline")
        metrics = runner.get(artifacts.BASELINE)
    return Result(
        verb="baseline",
        data={"run": str(runner.path), "baseline": records.plain(metrics)},
        text=baseline_table(metrics),
        next=command("scan", "-c", config),
    )


@verb
def scan(config: ConfigFile, common: Common) -> Result:
    """Re-initialize every unit and measure what is lost; resumable."""
    from srinit import records
    from srinit.cli.tables import sensitivity_table
    from srinit.pipeline import start
    from srinit.runs import artifacts

    if common.dry_run:
        return foreseen("scan", config, common)
    with RichObserver() as observer, start.create_run(config, common.overrides, observer) as runner:
        observer.step("scan")
        sensitivity = runner.get(artifacts.SENSITIVITY)
    return Result(
        verb="scan",
        data={"run": str(runner.path), "sensitivity": records.plain(sensitivity)},
        text=sensitivity_table(sensitivity),
        quiet=runner.rank > 0,
        next=command(
            "plan",
            runner.path,
            *(("--params", "0.9") if sensitivity.is_off else ("--max-drop", "0.02")),
        ),
    )
