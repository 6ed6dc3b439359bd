"""The verb that does everything: run; and what is said at the end of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from srinit.cli.options import Common, ConfigFile, verb
from srinit.cli.output import Result
from srinit.cli.progress import RichObserver
from srinit.display import command, quoted

if TYPE_CHECKING:
    from srinit.pipeline.result import RunResult

GATE_FAILED = 3
T = TypeVar("T")


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
        f"open {quoted(result.report)}; then {command('verify', Path(result.run))}"
        if result.passed
        else f"open {quoted(result.report)}. Another recipe that is judged on the same test data "
        "is selection on test data: choose it on validation data, and judge it on test data that "
        "no run has read (data.test)"
    )
    return Result(
        verb=name,
        data=records.plain(result),
        text=result.words(),
        first=_drawn(Path(result.run), result.stage),
        next=following,
        exit_code=0 if result.passed else GATE_FAILED,
    )


def _drawn(run: Path, stage: int) -> list[Any]:
    """Return what a finished run found, as the single verbs draw it."""
    from srinit import records
    from srinit.cli.draw import comparison_table, gate_table, shift_table, site_tables
    from srinit.cli.fitted import plan_table, sensitivity_table
    from srinit.comparison import Comparison, Shift, Site
    from srinit.gates import GateResult
    from srinit.pipeline.judge import COMPARISON_SCHEMA, GATE_SCHEMA, SHIFT_SCHEMA
    from srinit.pipeline.look import SENSITIVITY_SCHEMA
    from srinit.pipeline.site import SITE_SCHEMA
    from srinit.plan import PlanTimes, PrunePlan
    from srinit.sensitivity import Sensitivity

    def read(kind: type[T], path: str, schema: str) -> T:
        return records.from_json(kind, (run / path).read_bytes(), schema=schema, where=path)

    folder = f"stages/{stage:02d}"
    own = run / folder / "plan.json"
    path = own if own.is_file() else run / "plan.json"
    plan, times = PrunePlan.from_json(path.read_bytes()), path.with_name("plan_latency.json")
    if times.is_file():
        plan = plan.timed(PlanTimes.from_json(times.read_bytes()))
    more: list[Any] = []
    if (run / folder / "shift.json").is_file():
        more.append(shift_table(read(Shift, f"{folder}/shift.json", SHIFT_SCHEMA)))
    if (run / folder / "site.json").is_file():
        more += site_tables(read(Site, f"{folder}/site.json", SITE_SCHEMA), apart=True)
    return [
        sensitivity_table(read(Sensitivity, "scan/sensitivity.json", SENSITIVITY_SCHEMA)),
        plan_table(plan),
        comparison_table(read(Comparison, f"{folder}/comparison.json", COMPARISON_SCHEMA)),
        gate_table(read(GateResult, f"{folder}/gate.json", GATE_SCHEMA)),
        *more,
    ]
