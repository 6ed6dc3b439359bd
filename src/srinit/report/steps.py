"""The network after every number of removals: what ranks the units, and what each prefix costs."""

from __future__ import annotations

from collections.abc import Sequence

from srinit.plan import Prefix
from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.data import ReportInput
from srinit.report.scores import criterion_name, other_scores, shown
from srinit.report.text import LocalizedText, Translator


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


def by_high(report: ReportInput) -> bool:
    """Return whether the plan ranks by the upper end of the intervals, not by the estimates."""
    target = report.plan.target
    return "max_drop" in target and target.get("rule", "interval") == "interval"


def ranked_by(report: ReportInput, say: Translator) -> LocalizedText:
    """Return what the order of removal rests on."""
    criterion = report.plan.criterion
    if criterion and not criterion.startswith("reinit_drop"):
        key = "layers.by_other_off" if report.sensitivity.is_off else "layers.by_other"
        return say(key, criterion=criterion_name(criterion, say), rule=criterion)
    return say("layers.by_high" if by_high(report) else "layers.by_mean")


def lead(report: ReportInput, say: Translator) -> LocalizedText:
    """Return what the section explains first: the criterion that ranked, not one beside it."""
    criterion = report.plan.criterion
    off = report.sensitivity.is_off
    earlier = {name for round_ in report.rounds[:-1] for name in round_.removed}
    if set(report.plan.target.get("remove", ())) - earlier:
        return say("layers.lead_named_off" if off else "layers.lead_named")
    if criterion and not criterion.startswith("reinit_drop"):
        key = "layers.lead_other_off" if off else "layers.lead_other"
        return say(key, criterion=criterion_name(criterion, say))
    return say("layers.lead")


def value_label(report: ReportInput, say: Translator) -> LocalizedText:
    """Return the name of what ranks."""
    scores = other_scores(report)
    if scores is None:
        return say("layers.drop")
    return criterion_name(scores.criterion, say)


def threshold(report: ReportInput, say: Translator) -> LocalizedText:
    """Return the name of what ranks, as it is of the last unit that goes."""
    return say("layers.threshold", what=value_label(report, say))


def _values(report: ReportInput) -> dict[str, str]:
    scores = other_scores(report)
    if scores is not None:
        return {unit.unit: shown(unit.score, scores) for unit in scores.units}
    high = by_high(report)
    return {
        unit.unit: fmt.points(unit.high if high else unit.reinit_drop, 1, signed=False)
        for unit in report.sensitivity.units
    }


def steps_of(report: ReportInput) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """Return the network after every removal of the ranking, and the batch sizes timed."""
    plan = report.plan
    batches = sorted({size for p in plan.prefixes for size in p.latency_ms or {}}, key=_as_number)
    timed = {size: _interpolated(plan.prefixes, size) for size in batches}
    first = plan.prefixes[0]
    values = _values(report)
    steps = []
    for index, prefix in enumerate(plan.prefixes):
        name = plan.ranking[index - 1] if index else ""
        steps.append(
            Step(
                num_removed=prefix.num_removed,
                unit=name,
                value=values.get(name, fmt.NOTHING),
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
    guessed = {index for index, prefix in enumerate(prefixes) if prefix.interpolated is not None}
    found: list[tuple[float | None, bool]] = []
    for index in range(len(prefixes)):
        before = max((k for k in known if k <= index), default=None)
        after = min((k for k in known if k >= index), default=None)
        if before is None or after is None:
            found.append((None, False))
        elif before == after:
            found.append((known[index], index not in guessed))
        else:
            share = (index - before) / (after - before)
            found.append((known[before] + share * (known[after] - known[before]), False))
    return found
