"""What a config may say of layers, and what it would say after a cut: edits of its JSON form.

Nothing here knows a family of networks. Counts, lists with an entry a layer, lists of indices,
thresholds, periods, patterns and dictionaries by index are told apart by their form.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from srinit.surgery.config_twin import Body
from srinit.surgery.replace import Cut

SPEAKS = re.compile(
    r"layer|depth|block|step|interval|freq|period|offset|every|dense|sparse|moe|pattern|ind(ex|ic)"
    r"|_ids?$|replace|hybrid|shared|stage"
)
NUMBERED = re.compile(r"([a-z_]+?)(\d*)")  # stem, stage3
SHORT = 64  # longer lists than this are not written out

Place = tuple[str | int, ...]
Edit = tuple[Place, Any]  # where, and the new value; DROPPED takes the entry out
DROPPED = object()


def applied(body: Body, edits: Sequence[Edit]) -> Body:
    """Return a copy of `body` with edits.

    Example:
        >>> applied({"a": {"n": 4}, "b": 1}, [(("a", "n"), 3), (("b",), DROPPED)])
        {'a': {'n': 3}}
    """
    result = copy.deepcopy(body)
    for place, value in edits:
        owner: Any = result
        for step in place[:-1]:
            owner = owner[step]
        if value is DROPPED:
            owner.pop(place[-1], None)
        else:
            owner[place[-1]] = copy.deepcopy(value)
    return result


def leaves(body: object, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Yield every value that stands under a name, of nested configs as well, with its place."""
    if isinstance(body, Mapping):
        for key, value in body.items():
            if not str(key).startswith(("_", "id2label", "label2id")):
                yield (*place, key), value
                yield from leaves(value, (*place, key))


def speaks(place: Place) -> bool:
    """Tell whether a field's name speaks of layers or of places among them."""
    return any(SPEAKS.search(str(step)) for step in place)


def lowered(body: Body, cut: Cut) -> list[list[Edit]]:
    """Return by likelihood the ways to lower one count, with and without the lists beside it."""
    found: list[list[Edit]] = []
    counts = [place for place, value in leaves(body) if _is_int(value) and value == cut.before]
    counts += [
        (*place, index)
        for place, value in leaves(body)
        if isinstance(value, list)
        for index, entry in enumerate(value)
        if _is_int(entry) and entry == cut.before
    ]
    for place in sorted(counts, key=lambda place: (not speaks(place), str(place))):
        lower: Edit = (place, cut.after)
        entry = isinstance(place[-1], int)
        beside = [] if entry else shortened(body, cut, place[:-1])
        found += [[lower, *beside], [lower]] if beside else [[lower]]
    everywhere = shortened(body, cut)
    marked = boundaries(body, cut)
    if marked:
        found = [[*way, *marked] for way in found[:2]] + found
    return found + ([everywhere] if everywhere else [])


def boundaries(body: Body, cut: Cut) -> list[Edit]:
    """Return the edits of lists that name places between layers: 0 before the first, n after all.

    Places come as numbers, as in `out_indices`, or in names, as in `stage3`; both go together.
    """
    edits: list[Edit] = []
    for place, value in leaves(body):
        if not isinstance(value, list) or not value or "out" not in str(place[-1]):
            continue
        names = [NUMBERED.fullmatch(entry) if _is_text(entry) else None for entry in value]
        if all(map(_is_int, value)) and all(0 <= index <= cut.before for index in value):
            edits.append((place, _once(_moved(index, cut) for index in value)))
        elif all(names):
            new = [f"{m[1]}{_moved(int(m[2]), cut)}" if m[2] else m[1] for m in names if m]
            edits.append((place, _once(new)))
    return edits


def _once(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def shortened(body: Body, cut: Cut, beside: Place | None = None) -> list[Edit]:
    """Return the edits that take removed layers out of lists with an entry a layer.

    What stands under the name of a kind of layer goes with the last layer of that kind.
    """
    edits: list[Edit] = []
    gone: set[str] = set()
    for place, value in leaves(body):
        if isinstance(value, list) and len(value) == cut.before and beside in (None, place[:-1]):
            kept = _kept(value, cut)
            edits.append((place, kept))
            gone |= {v for v in value if isinstance(v, str)} - {v for v in kept if _is_text(v)}
        elif _by_index(value, cut) and speaks(place) and beside in (None, place[:-1]):
            edits.append((place, _renumbered(value, cut)))
    for place, value in leaves(body):
        if place[-1] in gone and isinstance(value, Mapping):
            edits.append((place, DROPPED))
    return edits


def moved_indices(body: Body, cut: Cut) -> list[Edit]:
    """Return the edits that let lists of layer indices, and thresholds, count what is left."""
    edits: list[Edit] = []
    for place, value in leaves(body):
        if _indices(value, cut) and value:
            edits.append((place, [_moved(index, cut) for index in value if index not in cut.gone]))
        if isinstance(value, list) and 0 < len(value) < cut.before and _texts(value):
            cycle = [value[index % len(value)] for index in _left(cut)]
            edits.append((place, cycle))
        if isinstance(value, list) and len(value) == cut.before:
            edits.append((place, _kept(value, cut)))
        runs = _runs(value)
        if len(runs) == cut.before:
            edits.append((place, [[_kept(runs, cut), 1]]))
        if isinstance(value, str) and len(value) == cut.before:
            edits.append((place, "".join(_kept(list(value), cut))))
        if _by_index(value, cut):
            edits.append((place, _renumbered(value, cut)))
        if isinstance(value, list) and _texts(value) and value:
            edits.append((place, DROPPED))  # the class's own default
        if _is_int(value) and 0 < value <= cut.before:
            first = sum(index < value for index in _left(cut))
            last = sum(index >= cut.before - value for index in _left(cut))
            edits += [(place, number) for number in {first, last} - {value}]
    return sorted(edits, key=lambda edit: not speaks(edit[0]))


def guessed(body: Body, cut: Cut, groups: Sequence[Sequence[int]]) -> list[Edit]:
    """Return edits that do not follow from the old values: other periods, offsets, index lists.

    Args:
        body: The config.
        cut: What went.
        groups: Indices of layers that have something in common that others lack.
    """
    edits: list[Edit] = []
    for place, value in leaves(body):
        if not speaks(place):
            continue
        if _indices(value, cut):
            edits += [(place, list(group)) for group in groups if list(group) != value]
        elif _is_int(value) and 0 <= value <= cut.before:
            edits += [(place, n) for n in range(min(cut.after, SHORT) + 1) if n != value]
    return edits


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _texts(value: Sequence[Any]) -> bool:
    return all(map(_is_text, value))


def _left(cut: Cut) -> list[int]:
    return [index for index in range(cut.before) if index not in cut.gone]


def _kept(value: Sequence[Any], cut: Cut) -> list[Any]:
    return [value[index] for index in _left(cut)]


def _moved(index: int, cut: Cut) -> int:
    return index - sum(gone < index for gone in cut.gone)


def _indices(value: object, cut: Cut) -> bool:
    """Tell whether a value may be a list of layer indices: whole numbers in order, each once."""
    if not isinstance(value, list) or not all(map(_is_int, value)):
        return False
    return value == sorted(set(value)) and all(0 <= index < cut.before for index in value)


def _by_index(value: object, cut: Cut) -> bool:
    if not isinstance(value, Mapping) or not value:
        return False
    return all(str(key).isdigit() and int(key) < cut.before for key in value)


def _renumbered(value: Mapping[Any, Any], cut: Cut) -> dict[Any, Any]:
    left = {key: entry for key, entry in value.items() if int(key) not in cut.gone}
    return {type(key)(_moved(int(key), cut)): entry for key, entry in left.items()}


def _runs(value: object) -> list[Any]:
    """Return what a list of [pattern, how often] stands for; empty if it is none."""
    found: list[Any] = []
    for run in value if isinstance(value, list) else ():
        if not (isinstance(run, list) and len(run) == 2 and isinstance(run[0], list)):
            return []
        if not _is_int(run[1]) or run[1] * len(run[0]) > SHORT * SHORT:
            return []
        found += run[0] * run[1]
    return found
