"""Pruning round by round: the dip after every cut, its recovery, and rounds that were rejected."""

from __future__ import annotations

from typing import Literal

from markupsafe import Markup

from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.acceptance import gate_text
from srinit.report.charts import Axis, Line, line_chart
from srinit.report.data import ReportInput, RoundInput
from srinit.report.text import LocalizedText, Translator, join

Fate = Literal["delivered", "passed", "rejected"]
POINTS = ("cut", "compensated", "tuned")  # thirds of a round on the horizontal axis


@record
class RoundRow:
    """One round: what it cut, how deep the dip was, what came back, how it was judged."""

    number: int
    fate: Fate
    state: LocalizedText | None  # none where it was cut once
    removed: tuple[str, ...]  # by this round alone
    scores: tuple[str, ...]  # start, after the cut, compensated, tuned
    dip: str  # in points, from the start
    recovered: str  # what is left of it after fine-tuning, in points
    loss: LocalizedText | None  # against the unpruned network on validation data, with its interval
    why: tuple[LocalizedText, ...]  # gates that failed
    sources: tuple[str, ...]


@record
class Rounds:
    """What the page and the summary say of the rounds."""

    lead: LocalizedText
    rows: tuple[RoundRow, ...] = ()
    curve: Markup = Markup("")
    has_loss: bool = False


def rounds_view(report: ReportInput, say: Translator) -> Rounds:
    """Return the rounds with scores, those that are delivered first, then the rejected ones."""
    tried = [*_with_scores(report.rounds), *_with_scores(report.rejected)]
    rows: list[RoundRow] = []
    gone: tuple[str, ...] = ()
    start: float | None = None
    for round_ in tried:
        row = _row(round_, report, gone, start, say)
        rows.append(row)
        if row.fate != "rejected":
            gone, start = round_.removed, score(round_, "tuned")
    return Rounds(
        lead=_lead(report, rows, say),
        rows=tuple(rows),
        curve=_curve(report, say),
        has_loss=any(row.loss for row in rows),
    )


def score(round_: RoundInput, key: str) -> float | None:
    """Return one score of a round on validation data; None where it was not measured."""
    if round_.cut is None:
        return None
    if key == "tuned":
        return round_.tune.score_after if round_.tune else None
    value: float | None = getattr(round_.cut, f"score_{key}")
    return value


def _with_scores(rounds: tuple[RoundInput, ...]) -> list[RoundInput]:
    return [round_ for round_ in rounds if round_.cut is not None]


def _row(
    round_: RoundInput,
    report: ReportInput,
    gone: tuple[str, ...],
    start: float | None,
    say: Translator,
) -> RoundRow:
    if start is None:
        start = score(round_, "before")
    fate = _fate(round_, report)
    found = [start, *(score(round_, key) for key in POINTS)]
    loss = round_.validation.score if round_.validation else None
    failed = round_.validation_gates.failed if round_.validation_gates else ()
    folder = f"{'rejected' if round_ in report.rejected else 'rounds'}/{round_.number:02d}"
    return RoundRow(
        number=round_.number,
        fate=fate,
        state=None if report.outcome is None else say(f"rounds.{fate}"),
        removed=tuple(name for name in round_.removed if name not in gone),
        scores=tuple(fmt.percent(value, 2) for value in found),
        dip=_change(start, found[1]),
        recovered=_change(start, found[3]),
        loss=None
        if loss is None
        else say(
            "rounds.loss",
            points=fmt.points(None if loss.drop is None else -loss.drop),
            range=fmt.ends(fmt.points(-loss.high), fmt.points(-loss.low)),
        ),
        why=tuple(gate_text(gate, say, report.roi.currency) for gate in failed),
        sources=tuple(f"{folder}/{n}.json" for n in ("metrics", "tune", "validation_gate")),
    )


def _fate(round_: RoundInput, report: ReportInput) -> Fate:
    if round_ in report.rejected:
        return "rejected"
    if report.outcome is not None and not report.outcome.accepted:
        return "rejected"  # the first round failed; it is reported, there is nothing before it
    return "delivered" if round_ is report.last else "passed"


def _change(start: float | None, value: float | None) -> str:
    return fmt.points(None if start is None or value is None else value - start)


def _lead(report: ReportInput, rows: list[RoundRow], say: Translator) -> LocalizedText:
    outcome = report.outcome
    if outcome is None:
        return say("rounds.one")
    kept = [row for row in rows if row.fate != "rejected"]
    failed = [row for row in rows if row.fate == "rejected"]
    if not kept:
        return say("rounds.first_failed")
    lead = say("rounds.lead", tried=str(len(rows)), delivered=str(outcome.delivered))
    if failed:
        return join([lead, say("rounds.stopped", number=str(failed[0].number))], ja="", en=" ")
    return join([lead, say("rounds.no_way" if outcome.reason else "rounds.reached")], ja="", en=" ")


def _curve(report: ReportInput, say: Translator) -> Markup:
    """Return scores on validation data; what was rejected branches off, dashed."""
    kept = _with_scores(report.rounds)
    if not kept or (report.outcome is not None and not report.outcome.accepted and not kept):
        return Markup("")
    path = [(0.0, score(kept[0], "before"))]
    for place, round_ in enumerate(kept, start=1):
        path += _thirds(place, round_)
    branches = []
    for round_ in _with_scores(report.rejected):
        branches.append([path[-1], *_thirds(len(kept) + 1, round_)])
    values = [100 * y for part in (path, *branches) for _, y in part if y is not None]
    if len(values) < 2:
        return Markup("")
    low, high = min(values), max(values)
    air = max((high - low) * 0.1, 1.0)
    last = len(kept) + bool(branches)
    lines = [_line(path, say("rounds.kept"), 0, measured=True)]
    lines += [_line(part, say("rounds.rejected"), 1, measured=False) for part in branches[:1]]
    ticks: tuple[float, ...] = tuple(range(last + 1))
    names: tuple[LocalizedText, ...] = ()
    if last == 1:
        ticks = (0.0, 1 / 3, 2 / 3, 1.0)
        names = tuple(say(f"rounds.tick.{key}") for key in ("start", *POINTS))
    return line_chart(
        lines,
        Axis(
            label=say("axis.round" if last > 1 else "axis.step"),
            low=0,
            high=last,
            ticks=ticks,
            names=names,
        ),
        Axis(label=say("axis.accuracy"), low=max(0.0, low - air), high=min(100.0, high + air)),
    )


def _thirds(place: int, round_: RoundInput) -> list[tuple[float, float | None]]:
    return [(place - 1 + (i + 1) / 3, score(round_, key)) for i, key in enumerate(POINTS)]


def _line(
    path: list[tuple[float, float | None]], label: LocalizedText, color: int, *, measured: bool
) -> Line:
    known = [(x, y) for x, y in path if y is not None]
    return Line(
        label=label,
        x=tuple(x for x, _ in known),
        y=tuple(100 * y for _, y in known),
        color=color,
        solid=(measured,) * len(known),
    )
