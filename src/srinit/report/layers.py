"""The layers: one row per unit, and for every prefix of the ranking what it costs."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup

from srinit.plan import Prefix
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.charts import Axis, Line, line_chart, track
from srinit.report.data import ReportInput
from srinit.report.text import Say, Text
from srinit.sensitivity.records import SchemeTrial, UnitSensitivity
from srinit.units.records import LockedUnit, Unit

DOTS = 1500  # single observations in the whole drawing
MANY = 100  # units from which the page has no room for them
COLLAPSED = 0.9  # share of one prediction from which a re-initialized network has collapsed


@record
class Row:
    """One unit as it is drawn."""

    name: str
    kind: str  # "gone", "kept", "locked"
    stage: str
    depth: int
    order: int  # by drop; what was not measured comes last
    rank: int  # place in the ranking from 1; 0: not in it
    drop: str
    range: str
    flags: tuple[Text, ...]
    params: str
    strip: Markup


@record
class Cell:
    """One cost of one prefix."""

    text: str
    share: float | None  # of the unpruned network's
    state: str  # "measured", "between" (interpolated) or "none"


@record
class Step:
    """The network after so many removals."""

    num_removed: int
    unit: str
    value: str  # what the ranking is by, in points
    params: Cell
    flops: Cell
    latency: tuple[Cell, ...]


@record
class Trial:
    """One candidate of the choice of scheme."""

    scheme: str
    reliability: str
    saturated: str
    chosen: bool


@record
class Layers:
    """What the section shows."""

    rows: tuple[Row, ...]
    steps: tuple[Step, ...]
    batches: tuple[str, ...]
    chosen: int
    run: str
    command: str
    curve: Markup
    dots_note: Text
    undecided: tuple[str, ...]
    trials: tuple[Trial, ...]
    ranked_by: Text


def layers_view(report: ReportInput, say: Say) -> Layers:
    """Return the rows, the steps and the curve of the layers section."""
    steps, batches = _steps(report)
    chosen = len(report.plan.remove)
    units = report.sensitivity.units
    return Layers(
        rows=_rows(report, say),
        steps=steps,
        batches=batches,
        chosen=chosen,
        run=shlex.quote(report.run),
        command=plan_command(report.run, report.plan.names),
        curve=_curve(steps, batches, chosen, say),
        dots_note=say(
            "layers.legend_dots", confidence=fmt.percent(report.sensitivity.confidence, 0)
        ),
        undecided=tuple(
            unit.unit
            for unit in units
            if unit.decision == "undecided" and report.sensitivity.max_drop is not None
        ),
        trials=tuple(_trial(trial) for trial in report.sensitivity.trials),
        ranked_by=_ranked_by(report, say),
    )


def plan_command(run: str, names: Sequence[str]) -> str:
    """Return the command that makes exactly the plan that removes `names`.

    Example:
        >>> plan_command("runs/a", ["layer1.0", "layer1.2"])
        'srinit plan runs/a --remove layer1.0,layer1.2'
    """
    return f"srinit plan {shlex.quote(run)} --remove {shlex.quote(','.join(names))}"


def by_high(report: ReportInput) -> bool:
    """Return whether the plan ranks by the upper end of the intervals, not by the estimates."""
    target = report.plan.target
    return "max_drop" in target and target.get("rule", "interval") == "interval"


def _ranked_by(report: ReportInput, say: Say) -> Text:
    criterion = report.plan.criterion
    if criterion and not criterion.startswith("reinit_drop"):
        return say("layers.by_other", criterion=criterion)
    return say("layers.by_high" if by_high(report) else "layers.by_mean")


def _trial(trial: SchemeTrial) -> Trial:
    return Trial(
        scheme=f"{trial.scheme} ×{trial.scale:g}",
        reliability=fmt.fixed(trial.reliability, 2),
        saturated=fmt.percent(trial.saturated, 0),
        chosen=trial.chosen,
    )


def _rows(report: ReportInput, say: Say) -> tuple[Row, ...]:
    scan = report.sensitivity
    measured = {unit.unit: unit for unit in scan.units}
    known: list[Unit | LockedUnit] = [*scan.unit_map.removable, *scan.unit_map.locked]
    known.sort(key=lambda unit: unit.position)
    drops = {name: unit.reinit_drop for name, unit in measured.items()}
    by_drop = sorted((unit.name for unit in known), key=lambda name: _sort_key(drops.get(name)))
    low_end, high_end = _extent(scan.units)
    most_dots = DOTS // max(len(known), 1) if len(known) <= MANY else 0
    locked = {unit.name: unit for unit in scan.unit_map.locked}
    removed = set(report.plan.names)
    ranks = {name: rank for rank, name in enumerate(report.plan.ranking, start=1)}
    rows = []
    for depth, unit in enumerate(known):
        found = measured.get(unit.name)
        flags = list(_flags(found, scan.max_drop, say))
        if unit.name in locked:
            flags.insert(0, say(f"lock.{_key(locked[unit.name].reason)}"))
        kind = "locked" if unit.name in locked else "gone" if unit.name in removed else "kept"
        rows.append(
            Row(
                name=unit.name,
                kind=kind,
                stage=unit.stage,
                depth=depth,
                order=by_drop.index(unit.name),
                rank=ranks.get(unit.name, 0),
                drop=fmt.points(found.reinit_drop if found else None, 1, signed=False),
                range=_range(found),
                flags=tuple(flags),
                params=fmt.percent(unit.params / max(scan.unit_map.params, 1)),
                strip=_strip(found, low_end, high_end, scan.max_drop, most_dots),
            )
        )
    return tuple(rows)


def _key(reason: str) -> str:
    return reason.replace(" ", "_")


def _sort_key(drop: float | None) -> tuple[bool, float]:
    return drop is None, drop or 0.0


def _range(unit: UnitSensitivity | None) -> str:
    if unit is None or unit.low is None or unit.high is None:
        return ""
    low, high = (fmt.points(end, 1, signed=False) for end in (unit.low, unit.high))
    return f"[{low}, {high}]"


def _extent(units: Sequence[UnitSensitivity]) -> tuple[float, float]:
    values = [0.0, 0.05]
    for unit in units:
        values += [v for v in (unit.reinit_drop, unit.low, unit.high) if v is not None]
        values += unit.observations
    return min(values) - 0.01, max(values) + 0.01


def _strip(
    unit: UnitSensitivity | None,
    low_end: float,
    high_end: float,
    limit: float | None,
    most_dots: int,
) -> Markup:
    if unit is None:
        return Markup("")
    return track(
        low_end,
        high_end,
        value=unit.reinit_drop,
        low=unit.low,
        high=unit.high,
        dots=unit.observations[:most_dots],
        limit=limit,
    )


def _flags(unit: UnitSensitivity | None, max_drop: float | None, say: Say) -> list[Text]:
    if unit is None or unit.decision == "not measured":
        return [say("flag.unmeasured")]
    flags = []
    if unit.decision == "undecided" and max_drop is not None:
        flags.append(say("flag.undecided"))
    if unit.top_share is not None and unit.top_share >= COLLAPSED:
        flags.append(say("flag.collapsed", share=fmt.percent(unit.top_share, 0)))
    if unit.nonfinite > 0:
        flags.append(say("flag.nonfinite", share=fmt.percent(unit.nonfinite, 1)))
    return flags


def _steps(report: ReportInput) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    plan, scan = report.plan, report.sensitivity
    batches = sorted({size for p in plan.prefixes for size in p.latency_ms or {}}, key=_as_number)
    timed = {size: _interpolated(plan.prefixes, size) for size in batches}
    first = plan.prefixes[0]
    high = by_high(report)
    values = {unit.unit: unit.high if high else unit.reinit_drop for unit in scan.units}
    steps = []
    for index, prefix in enumerate(plan.prefixes):
        name = plan.ranking[index - 1] if index else ""
        steps.append(
            Step(
                num_removed=prefix.num_removed,
                unit=name,
                value=fmt.points(values.get(name), 1, signed=False),
                params=_cell(fmt.fixed(prefix.params), prefix.params, first.params),
                flops=_cell(fmt.fixed(prefix.flops), prefix.flops, first.flops),
                latency=tuple(_latency(timed[size], index) for size in batches),
            )
        )
    return tuple(steps), tuple(batches)


def _as_number(size: str) -> int:
    return int(size) if size.isdigit() else 0


def _cell(text: str, value: float, first: float) -> Cell:
    return Cell(text=text, share=value / first if first else None, state="measured")


def _latency(timed: Sequence[tuple[float | None, bool]], index: int) -> Cell:
    value, measured = timed[index]
    first = timed[0][0]
    if value is None:
        return Cell(text=fmt.NOTHING, share=None, state="none")
    share = value / first if first else None
    state = "measured" if measured else "between"
    return Cell(text=fmt.milliseconds(value), share=share, state=state)


def _interpolated(prefixes: Sequence[Prefix], size: str) -> list[tuple[float | None, bool]]:
    """Return (latency, measured) per prefix: between two measured ones on a line, never beyond."""
    known = {
        index: prefix.latency_ms[size]
        for index, prefix in enumerate(prefixes)
        if prefix.latency_ms and size in prefix.latency_ms
    }
    found: list[tuple[float | None, bool]] = []
    for index in range(len(prefixes)):
        before = max((k for k in known if k <= index), default=None)
        after = min((k for k in known if k >= index), default=None)
        if before is None or after is None:
            found.append((None, False))
        elif before == after:
            found.append((known[index], True))
        else:
            share = (index - before) / (after - before)
            found.append((known[before] + share * (known[after] - known[before]), False))
    return found


def _curve(steps: Sequence[Step], batches: Sequence[str], chosen: int, say: Say) -> Markup:
    counts = tuple(float(step.num_removed) for step in steps)

    def line(label: Text, cells: Sequence[Cell], color: int) -> Line:
        return Line(
            label=label,
            x=counts,
            y=tuple(None if c.share is None else 100 * c.share for c in cells),
            color=color,
            solid=tuple(c.state == "measured" for c in cells),
            marks=len(steps) <= 40,
        )

    lines = [
        line(say("cost.params"), [s.params for s in steps], 0),
        line(say("cost.flops"), [s.flops for s in steps], 1),
    ]
    for index, size in enumerate(batches):
        cells = [step.latency[index] for step in steps]
        lines.append(line(say("cost.latency", batch=size), cells, 2 + index))
    top = max([100.0, *(y for item in lines for y in item.y if y is not None)])
    return line_chart(
        lines,
        Axis(label=say("axis.removed"), low=0, high=max(counts[-1], 1)),
        Axis(label=say("axis.of_baseline"), low=0, high=top * 1.04),
        marker=chosen,
    )


@record
class Cut:
    """What was removed, for the first page."""

    summary: Text
    names: Text
    stages: tuple[tuple[str, ...], ...]  # kinds of the units, stage by stage
    confidence: Text  # of all intervals


def cut_view(report: ReportInput, rows: Sequence[Row], say: Say) -> Cut:
    """Return the network as a strip of units, in order of execution."""
    stages = [tuple(row.kind for row in group) for _, group in groupby(rows, lambda r: r.stage)]
    kinds = Counter(row.kind for row in rows)
    found = report.comparison
    confidence = found.confidence if found else report.sensitivity.confidence
    return Cut(
        summary=say(
            "cut.summary",
            removed=str(kinds["gone"]),
            total=str(len(rows)),
            locked=str(kinds["locked"]),
        ),
        names=say("cut.names", names=", ".join(row.name for row in rows if row.kind == "gone"))
        if kinds["gone"]
        else say("cut.none"),
        stages=tuple(stages),
        confidence=say("page.confidence", confidence=fmt.percent(confidence, 0)),
    )
