"""The network as a graph: stage by stage, what went, what stayed, and how large it is.

One static drawing. The stream runs from left to right through the blocks of a stage, and on to the
next row; through a block that was removed it runs straight on. Heights are shares of parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from markupsafe import Markup, escape

from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.data import ReportInput
from srinit.report.text import LocalizedText, Translator
from srinit.units.records import LockedUnit, Unit

WIDTH, AT, ROW, TALLEST, SMALLEST = 768, 176, 84, 40.0, 5.0
"""Width, where the blocks of a row begin, height of a row and of blocks, in pixels."""
PER_ROW, PITCH = 12, 46
NARROW, NARROWEST = 24, 20  # a row of many blocks: pixels a block, and blocks from which it is one
NAMED = 100  # units from which single blocks bear no names
LONGEST = 22  # letters of a stage's name


@record
class Network:
    """What the section shows."""

    drawing: Markup
    note: LocalizedText
    rest: LocalizedText | None  # of the network beside the blocks drawn
    inside: LocalizedText | None  # what is not drawn, since it lies inside other blocks


def network_view(report: ReportInput, say: Translator) -> Network | None:
    """Return the drawing; None for a network without units."""
    found = report.sensitivity.unit_map
    units: list[Unit | LockedUnit] = [*found.removable, *found.locked]
    units.sort(key=lambda unit: unit.position)
    if not units:
        return None
    names = {unit.name for unit in units}
    outer = [unit for unit in units if not _is_inside(unit.name, names)]
    removed = set(report.plan.names)
    total = max(found.params, 1)
    drawn = sum(unit.params for unit in outer)
    left_out = len(units) - len(outer)
    largest = max(unit.params for unit in outer)
    return Network(
        drawing=_drawing(outer, removed, total),
        note=say("network.note", largest=fmt.percent(largest / total)),
        rest=say("network.rest", share=fmt.percent(1 - drawn / total)) if drawn <= total else None,
        inside=say("network.inside", num=fmt.fixed(left_out)) if left_out else None,
    )


def _is_inside(name: str, names: set[str]) -> bool:
    """Return whether a unit lies in another one."""
    parts = name.split(".")
    return any(".".join(parts[:length]) in names for length in range(1, len(parts)))


def _drawing(units: Sequence[Unit | LockedUnit], removed: set[str], total: int) -> Markup:
    stages = [(stage, list(group)) for stage, group in groupby(units, lambda unit: unit.stage)]
    dense = max(len(group) for _, group in stages) >= NARROWEST
    pitch, per_row = (NARROW, 2 * PER_ROW) if dense else (PITCH, PER_ROW)
    largest = max(max(unit.params for unit in units), 1)
    parts, top = list[str](), 0
    ends: list[tuple[int, int]] = []  # where the stream leaves a row
    for stage, group in stages:
        parts.append(_stage(stage, group, removed, total, top))
        for begin in range(0, len(group), per_row):
            row = group[begin : begin + per_row]
            middle = top + 32
            if ends:
                parts.append(_onward(ends[-1], middle))
            parts.append(f'<path class=stream d="M{AT - 18} {middle}h{18 + len(row) * pitch}"/>')
            parts += _blocks(row, (middle, pitch), removed, total, largest, len(units) < NAMED)
            ends.append((AT + len(row) * pitch, middle))
            top += ROW
    right, middle = ends[-1]
    parts.append(f'<path class="stream end" d="M{right} {middle}h16m-6-5l6 5l-6 5"/>')
    drawing = "".join(parts)
    return Markup(f'<svg class=graph viewBox="0 0 {WIDTH} {top}" aria-hidden=true>{drawing}</svg>')


def _stage(
    stage: str, units: Sequence[Unit | LockedUnit], removed: set[str], total: int, top: int
) -> str:
    """Return the name of a stage, its shape, and its share of the parameters before and after."""
    name = stage.partition("@")[0] or units[0].name.rpartition(".")[0]
    shape = "×".join(map(str, units[-1].out_shape))
    before = sum(unit.params for unit in units)
    after = sum(unit.params for unit in units if unit.name not in removed)
    shares = fmt.percent(before / total)
    if after != before:
        shares += f" → {fmt.percent(after / total)}"
    short = name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
    lines = ((short, 26, "stage"), (shape, 42, "dim"), (shares, 57, "dim"))
    return "".join(
        f'<text class={kind} x=0 y="{top + down}">{escape(text)}</text>'
        for text, down, kind in lines
    )


def _blocks(
    row: Sequence[Unit | LockedUnit],
    place: tuple[int, int],
    removed: set[str],
    total: int,
    largest: int,
    named: bool,
) -> list[str]:
    """Return the blocks of a row; the stream that was drawn before shows through removed ones."""
    middle, pitch = place
    width = pitch - 16 if pitch > NARROW else pitch - 6
    parts: list[str] = []
    together: dict[str, str] = {}  # blocks without names are one path a kind
    for index, unit in enumerate(row):
        gone = unit.name in removed
        kind = "locked" if isinstance(unit, LockedUnit) else "gone" if gone else "kept"
        left, share = AT + index * pitch, fmt.percent(unit.params / total)
        height = max(TALLEST * unit.params / largest, SMALLEST)
        shape = f"M{left} {middle - height / 2:.4g}h{width}v{height:.3g}h-{width}z"
        if named:
            title = escape(f"{unit.name}: {share}")
            parts.append(f'<path class={kind} d="{shape}"><title>{title}</title></path>')
        else:
            together[kind] = together.get(kind, "") + shape
        if pitch > NARROW:
            at = left + width // 2
            parts.append(f'<text class=share x="{at}" y="{middle + 33}">{share}</text>')
    return [*(f'<path class={kind} d="{shape}"/>' for kind, shape in together.items()), *parts]


def _onward(end: tuple[int, int], middle: int) -> str:
    """Return the stream from the end of a row to the beginning of the next one."""
    right, height = end
    turn = middle - 37
    return f'<path class=stream d="M{right} {height}h8V{turn}H{AT - 18}V{middle}"/>'
