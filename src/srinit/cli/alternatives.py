"""The verb that measures what else would make a network faster, beside pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from srinit.cli.options import Common, RunPath, verb
from srinit.cli.output import Result
from srinit.cli.progress import RichObserver
from srinit.display import command

if TYPE_CHECKING:
    from srinit.alternatives import Alternatives


@verb
def alternatives(run: RunPath, common: Common) -> Result:
    """Measure int8, fewer pixels, other networks beside pruning, and say what to take.

    On validation data and on the CPU; see the section `alternatives` of the config.
    """
    from srinit import records
    from srinit.pipeline import start
    from srinit.runs import artifacts

    pairs = [*common.overrides, "alternatives.measure=true"]
    if common.dry_run:
        lines = start.foresee(run, pairs, verb="alternatives")
        what = "answers validation data by every alternative, and times them in turn"
        data = {"dry_run": True, "run": str(run), "changes": list(lines)}
        return Result("alternatives", data, "\n".join([f"would do: {what}", *lines]))
    with (
        RichObserver() as observer,
        start.open_run(run, observer, pairs, verb="alternatives") as runner,
    ):
        observer.step("alternatives")
        found = runner.get(artifacts.ALTERNATIVES)
    return Result(
        verb="alternatives",
        data={"run": str(runner.path), "alternatives": records.plain(found)},
        text=_table(found),
        extra=[_lines(found)],
        next=command("report", runner.path),
    )


def _table(found: Alternatives) -> Any:
    from srinit.cli.render import compact_table, escape, percent, points

    sizes = [pair.baseline.batch_size for pair in found.tried[0].latency] if found.tried else []
    table = compact_table(
        title=f"alternatives on {found.num_examples} examples of {found.data} data",
        title_justify="left",
    )
    table.add_column("")
    table.add_column("network")
    names = ("score", "loss, points", "interval", *(f"ms, batch {n}" for n in sizes), "bytes")
    for name in (*names, "limits"):
        table.add_column(name, justify="right", no_wrap=True)
    for place, each in enumerate(found.tried):
        loss = each.loss
        table.add_row(
            "*" if place in found.front else "",
            escape(each.words()),
            percent(loss.pruned, 2),
            points(loss.value, 2),
            f"{points(loss.low, 2)} … {points(loss.high, 2)}",
            *(f"{pair.pruned.median_ms:.3g}" for pair in each.latency),
            f"{each.size_bytes:,}",
            "kept" if each.passed else "not kept",
        )
    return table


def _lines(found: Alternatives) -> str:
    lines = ["*: none is better in both score and time", found.words()]
    lines.append(f"limits: {', '.join(found.limits)}")
    if found.not_asked:
        lines.append(f"not asked here: {', '.join(found.not_asked)}")
    lines += [f"not tried: {name}: {why}" for name, why in found.not_tried.items()]
    return "\n".join(lines)
