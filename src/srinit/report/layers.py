"""The layers: one row per unit, and for every prefix of the ranking what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from markupsafe import Markup

from srinit.display import command, quoted
from srinit.records import Interval, record
from srinit.report import formats as fmt
from srinit.report.charts import Axis, Line, line_chart, scale, track
from srinit.report.data import ReportInput
from srinit.report.expected import ExpectedLoss, expected_loss
from srinit.report.prose import scheme_text
from srinit.report.rank_chart import SideBySide, side_by_side
from srinit.report.removals import CRITERION, Removals, Taken, removals_of
from srinit.report.scores import ScoreCell, score_cells, score_label
from srinit.report.steps import Cell, Step, lead, ranked_by, steps_of, threshold, value_label
from srinit.report.text import LocalizedText, Translator
from srinit.sensitivity.records import SchemeTrial, UnitSensitivity
from srinit.units.records import LockedUnit, Unit

DOTS = 800  # single observations in the whole drawing
MANY = 100  # units from which the page has no room for them
TICKS = 20  # numbers below the slider, at most
DOUBT = 1.5  # factor between times of the curve and those taken in turn
COLLAPSED = 0.9  # share of one prediction from which a re-initialized network has collapsed


@record
class Taking:
    """What taking a unit out costs, as it is drawn below what random weights cost."""

    drop: str
    range: str
    strip: Markup


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
    flags: tuple[LocalizedText, ...]
    params: str
    strip: Markup
    removal: Taking | None  # what taking it out costs
    score: ScoreCell | None  # of the criterion that ranks, where the scan does not
    place: int  # in the order of removal, from 0; what cannot go comes last


@record
class Trial:
    """One candidate of the choice of scheme."""

    scheme: LocalizedText
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
    is_bare: bool  # no loss of any unit was measured, so that no column shows one
    curve: Markup
    curve_doubt: LocalizedText | None  # where the times of the curve and of the comparison disagree
    dots_note: LocalizedText | None  # None: there was no scan
    undecided: tuple[str, ...]
    trials: tuple[Trial, ...]
    sources: tuple[str, ...]  # files behind it, relative to the run folder
    lead: LocalizedText  # what the order rests on
    ranked_by: LocalizedText
    value_label: LocalizedText  # of what ranks, in the table of steps
    threshold: LocalizedText  # the same of the last unit that goes
    score_label: LocalizedText | None  # of the criterion's column, where the scan does not rank
    scale: Markup  # of the strips
    removals: Removals
    criteria: SideBySide | None
    expected: ExpectedLoss | None
    ticks: Markup  # of the slider
    ends: LocalizedText


def layers_view(report: ReportInput, say: Translator) -> Layers:
    """Return the rows, the steps and the curve of the layers section."""
    steps, batches = steps_of(report)
    removals = removals_of(report, say)
    # A removal drop that ranks stands in the chart already.
    shown = report.plan.criterion != CRITERION
    scored = score_cells(report) if shown else {}
    extent = _extent(units := report.sensitivity.units, removals)
    chosen = len(report.plan.remove)
    rows = _rows(report, scored, removals, extent, say)
    return Layers(
        rows=rows,
        steps=steps,
        batches=batches,
        chosen=chosen,
        run=quoted(report.run),
        command=plan_command(report.run, report.plan.names),
        is_bare=report.sensitivity.is_off and removals.label is None,
        curve=_curve(steps, batches, chosen, say),
        curve_doubt=_curve_doubt(report, steps[chosen], batches, say),
        dots_note=None
        if report.sensitivity.is_off
        else say("layers.legend_dots", confidence=fmt.percent(report.sensitivity.confidence, 0)),
        undecided=tuple(
            unit.unit
            for unit in units
            if unit.decision == "undecided"
            and report.sensitivity.max_drop is not None
            and unit.unit in report.sensitivity.unit_map.names
        ),
        trials=tuple(_trial(trial, say) for trial in report.sensitivity.trials),
        sources=_sources(report),
        lead=lead(report, say),
        ranked_by=ranked_by(report, say),
        value_label=value_label(report, say),
        threshold=threshold(report, say),
        score_label=score_label(report, say) if any(row.score for row in rows) else None,
        scale=scale(*extent, factor=100, count=6),
        removals=removals,
        criteria=side_by_side(report, say),
        expected=expected_loss(report, say),
        ticks=_ticks(len(steps) - 1),
        ends=say("layers.ends", most=str(len(steps) - 1), total=str(len(rows))),
    )


def _ticks(most: int) -> Markup:
    """Return the numbers below the slider, its two ends among them."""
    step = -(-most // TICKS) or 1
    numbers = [*range(0, most - step // 2, step), most] if most else []
    marks = (f'<text x="{100 * n / most:.4g}%" y=12>{n}</text>' for n in numbers)
    return Markup(f"<svg class=scale aria-hidden=true>{''.join(marks)}</svg>")


def plan_command(run: str, names: Sequence[str]) -> str:
    """Return the command that makes exactly the plan that removes `names`.

    Example:
        >>> plan_command("runs/a", ["layer1.0", "layer1.2"])
        'srinit plan runs/a --remove layer1.0,layer1.2'
    """
    return command("plan", Path(run), "--remove", ",".join(names))


def _sources(report: ReportInput) -> tuple[str, ...]:
    folder = ""
    if report.outcome is not None and report.last is not None:
        folder = f"rounds/{report.last.number:02d}/"
    scan = ("sensitivity.json", "sensitivity.csv", "criterion.json")
    beside = ("beside.json",) if report.beside else ()
    return (
        *(f"scan/{name}" for name in (*scan, *beside)),
        f"{folder}plan.json",
        f"{folder}plan_latency.json",
        "units.json",
    )


def _trial(trial: SchemeTrial, say: Translator) -> Trial:
    return Trial(
        scheme=scheme_text(trial.scheme, trial.scale, say),
        reliability=fmt.fixed(trial.reliability, 2),
        saturated=fmt.percent(trial.saturated, 0),
        chosen=trial.chosen,
    )


def _rows(
    report: ReportInput,
    scored: Mapping[str, ScoreCell],
    removals: Removals,
    extent: tuple[float, float],
    say: Translator,
) -> tuple[Row, ...]:
    scan = report.sensitivity
    measured = {unit.unit: unit for unit in scan.units}
    known: list[Unit | LockedUnit] = [*scan.unit_map.removable, *scan.unit_map.locked]
    known.sort(key=lambda unit: unit.position)
    drops = {name: unit.reinit_drop for name, unit in measured.items()}
    by_drop = sorted((unit.name for unit in known), key=lambda name: _sort_key(drops.get(name)))
    most_dots = DOTS // max(len(known), 1) if len(known) <= MANY else 0
    locked = {unit.name: unit for unit in scan.unit_map.locked}
    removed = set(report.plan.names)
    ranks = {name: rank for rank, name in enumerate(report.plan.ranking, start=1)}
    rows = []
    for depth, unit in enumerate(known):
        found = measured.get(unit.name)
        is_locked = unit.name in locked  # nothing is to be decided about it
        limit = None if is_locked else scan.max_drop
        flags = [] if scan.is_off else _flags(found, limit, say)
        if is_locked:
            flags.insert(0, say(f"lock.{_key(locked[unit.name].reason)}"))
        kind = "locked" if is_locked else "gone" if unit.name in removed else "kept"
        rows.append(
            Row(
                name=unit.name,
                kind=kind,
                stage=unit.stage,
                depth=depth,
                order=by_drop.index(unit.name),
                rank=ranks.get(unit.name, 0),
                drop=fmt.points(found.reinit_drop if found else None, 1, signed=False),
                range=_range(found.interval if found else None),
                flags=tuple(flags),
                params=fmt.percent(unit.params / max(scan.unit_map.params, 1)),
                strip=_strip(found, extent, scan.max_drop, most_dots),
                removal=_taking(removals.units.get(unit.name), extent),
                score=scored.get(unit.name),
                place=ranks.get(unit.name, len(ranks) + depth + 1),
            )
        )
    return tuple(rows)


def _key(reason: str) -> str:
    return reason.replace(" ", "_")


def _sort_key(drop: float | None) -> tuple[bool, float]:
    return drop is None, drop or 0.0


def _range(found: Interval | None) -> str:
    if found is None:
        return ""
    low, high = (fmt.points(end, 1, signed=False) for end in (found.low, found.high))
    return f"[{low}, {high}]"


def _ends(found: Interval | None) -> tuple[float, ...]:
    return () if found is None else (found.low, found.high)


def _extent(units: Sequence[UnitSensitivity], removals: Removals) -> tuple[float, float]:
    """Return the ends of the scale: all intervals, and single measurements that are not far off."""
    ends = [0.0, 0.05]
    single: list[float] = []
    for unit in units:
        ends += [*([] if unit.reinit_drop is None else [unit.reinit_drop]), *_ends(unit.interval)]
        single += unit.observations
    for taken in removals.units.values():
        ends += [taken.value, *(_ends(taken.interval))]
    air = 0.25 * (max(ends) - min(ends))
    low, high = min([*ends, *single]), max([*ends, *single])
    return max(low, min(ends) - air) - 0.01, min(high, max(ends) + air) + 0.01


def _strip(
    unit: UnitSensitivity | None,
    extent: tuple[float, float],
    limit: float | None,
    most_dots: int,
) -> Markup:
    if unit is None:
        return Markup("")
    low_end, high_end = extent
    return track(
        low_end,
        high_end,
        value=unit.reinit_drop,
        within=unit.interval,
        dots=[v for v in _some(unit.observations, most_dots) if low_end <= v <= high_end],
        limit=limit,
        plain=most_dots == 0,
    )


def _some(observations: Sequence[float], most: int) -> Sequence[float]:
    """Return at most so many, from all along the measurement."""
    step = max(-(-len(observations) // most), 1) if most else 1
    return observations[::step] if most else ()


def _taking(taken: Taken | None, extent: tuple[float, float]) -> Taking | None:
    if taken is None:
        return None
    return Taking(
        drop=fmt.points(taken.value, 1, signed=False),
        range=_range(taken.interval),
        strip=track(*extent, value=taken.value, within=taken.interval, plain=True),
    )


def _flags(
    unit: UnitSensitivity | None, max_drop: float | None, say: Translator
) -> list[LocalizedText]:
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


def _curve(steps: Sequence[Step], batches: Sequence[str], chosen: int, say: Translator) -> Markup:
    counts = tuple(float(step.num_removed) for step in steps)

    def line(label: LocalizedText, cells: Sequence[Cell], color: int) -> Line:
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


def _curve_doubt(
    report: ReportInput, step: Step, batches: Sequence[str], say: Translator
) -> LocalizedText | None:
    """Return what to think of the curve's times where those taken in turn say something else."""
    pairs = report.comparison.latency if report.comparison else ()
    in_turn = {str(pair.baseline.batch_size): pair.ratio.known for pair in pairs}
    for batch, cell in zip(batches, step.latency, strict=True):
        ratio = in_turn.get(batch)
        if ratio and cell.share and not 1 / DOUBT <= cell.share / ratio <= DOUBT:
            return say(
                "layers.curve_doubt",
                batch=batch,
                here=fmt.percent(cell.share, 0),
                there=fmt.percent(ratio, 0),
            )
    return None


@record
class Cut:
    """What was removed, for the first page."""

    summary: LocalizedText
    names: LocalizedText
    stages: tuple[tuple[str, ...], ...]  # kinds of the units, stage by stage
    confidence: LocalizedText  # of all intervals


def cut_view(report: ReportInput, rows: Sequence[Row], say: Translator) -> Cut:
    """Return the network as a strip of units, in order of execution."""
    stages = [tuple(row.kind for row in group) for _, group in groupby(rows, lambda r: r.stage)]
    kinds = Counter(row.kind for row in rows)
    found = report.comparison
    confidence = found.confidence if found else report.sensitivity.confidence
    return Cut(
        summary=say(
            "cut.summary" if kinds["locked"] else "cut.summary_all",
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
