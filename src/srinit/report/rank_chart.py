"""Criteria side by side: the place every one gives each unit, as lines between columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape
from scipy.stats import spearmanr

from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.data import ReportInput
from srinit.report.scores import criterion_name, other_scores
from srinit.report.text import LocalizedText, Translator, untranslated

MOST_UNITS = 60  # above it the lines cannot be told apart
FEWEST = 3  # units whose orders can be compared
WIDTH, LEFT, RIGHT, TOP, STEP = 480, 130, 60, 30, 15
LONGEST = 15  # characters of a name beside the drawing


@record
class Column:
    """One criterion: its places, from 1, of the units that it scored."""

    name: LocalizedText
    short: LocalizedText
    places: Mapping[str, int]
    alike: str  # rank correlation with the first column


@record
class SideBySide:
    """What the page shows."""

    columns: tuple[Column, ...]
    drawing: Markup
    rows: tuple[tuple[str, bool, tuple[str, ...]], ...]  # unit, whether it goes, places


def side_by_side(report: ReportInput, say: Translator) -> SideBySide | None:
    """Return the criteria that were measured, the one that ranks first; None where it is alone."""
    values = _values(report)
    names = [unit.name for unit in report.sensitivity.unit_map.removable]
    common = [n for n in names if all(v.get(n) is not None for v in values.values())]
    if len(values) < 2 or not FEWEST <= len(common) <= MOST_UNITS:
        return None
    first = [next(iter(values.values()))[name] for name in common]
    columns = tuple(
        Column(
            name=criterion_name(criterion, say),
            short=_short(criterion, say),
            places=_places(common, found),
            alike=_alike(first, [found[name] for name in common]),
        )
        for criterion, found in values.items()
    )
    order = sorted(common, key=lambda name: columns[0].places[name])
    gone = set(report.plan.names)
    return SideBySide(
        columns=columns,
        drawing=_drawing(columns, order, gone),
        rows=tuple(
            (name, name in gone, tuple(str(column.places[name]) for column in columns))
            for name in order
        ),
    )


def _values(report: ReportInput) -> dict[str, dict[str, float | None]]:
    """Return every criterion's numbers by its name, in the order of columns."""
    scan = {unit.unit: unit.reinit_drop for unit in report.sensitivity.units}
    ranks = other_scores(report)
    found: dict[str, dict[str, float | None]] = {}
    if ranks is not None:
        found[ranks.criterion] = {unit.unit: unit.score for unit in ranks.units}
    if not report.sensitivity.is_off:
        found["reinit_drop"] = dict(scan)
    for scores in report.beside:
        found.setdefault(scores.criterion, {unit.unit: unit.score for unit in scores.units})
    return found


def _places(names: Sequence[str], values: Mapping[str, float | None]) -> dict[str, int]:
    """Return places from 1; the sort keeps equal values in order of execution."""
    order = sorted(names, key=lambda name: values[name] or 0.0)
    return {name: place for place, name in enumerate(order, start=1)}


def _alike(first: Sequence[float | None], other: Sequence[float | None]) -> str:
    if len(set(first)) < 2 or len(set(other)) < 2:
        return fmt.NOTHING
    return fmt.fixed(float(spearmanr(first, other).statistic), 2)


def _short(criterion: str, say: Translator) -> LocalizedText:
    key = f"short.{criterion.split(' ')[0]}"
    return say(key) if say.has(key) else untranslated(criterion)


def _drawing(columns: Sequence[Column], order: Sequence[str], gone: set[str]) -> Markup:
    height = TOP + STEP * len(order) + 4
    step = (WIDTH - LEFT - RIGHT) / (len(columns) - 1)
    xs = [LEFT + step * index for index in range(len(columns))]

    def y(place: int) -> float:
        return TOP + STEP * (place - 0.5)

    parts = [
        f'<text class=xtick x="{x:.0f}" y="14">{column.short.svg()}</text>'
        f'<path class=grid d="M{x:.0f} {TOP}V{height - 4}"/>'
        for x, column in zip(xs, columns, strict=True)
    ]
    for name in sorted(order, key=lambda name: name in gone):  # what goes lies on top
        kind = "gone" if name in gone else "kept"
        places = [(x, y(column.places[name])) for x, column in zip(xs, columns, strict=True)]
        path = "L".join(f"{x:.0f} {at:g}" for x, at in places)
        label = f'<text class="ytick {kind}" x="{LEFT - 8}" y="{places[0][1] + 4:g}">'
        parts.append(f'<path class="rank-line {kind}" d="M{path}"/>')
        parts.append(f"{label}{escape(_cut(name))}</text>")
    drawing = "".join(parts)
    box = f"0 0 {WIDTH} {height}"
    return Markup(f'<svg class="plot rank-chart" viewBox="{box}" aria-hidden=true>{drawing}</svg>')


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST else "…" + name[1 - LONGEST :]
