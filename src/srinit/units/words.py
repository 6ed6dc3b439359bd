"""The user's word: which units are offered. It chooses among units, and never changes one.

What is named may be a unit of any grain (block, sublayer, stage, plain), or a module that no unit
holds; such a module can go where its input reaches what follows in no other way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from srinit.recording import Call, ResidualAdd, TraceIndex, find_residual_adds, goes_around, within
from srinit.units.branches import named_by_part
from srinit.units.choose import Candidate, candidates
from srinit.units.dependencies import dependencies
from srinit.units.describe import locked_unit, whole_unit
from srinit.units.found import Found, Level
from srinit.units.patterns import covered
from srinit.units.plain import plain_units
from srinit.units.records import LockedUnit, Unit
from srinit.units.rule import Stream

LEVELS: tuple[Level, ...] = ("block", "sublayer", "stage")


def choose_by_word(base: Found, names: Sequence[str], *, level: Level, exact: set[str]) -> None:
    """Leave only the units that are named, in place, and say of what else is named why it is none.

    Args:
        base: The units of the level.
        names: Modules that are named.
        level: Of `base`.
        exact: Those named one by one: each stands for itself, where it is a unit of any grain;
            the others stand for the units of the level inside them.
    """
    words = _Words(base, level)
    outer_first = sorted(names, key=lambda name: (name.count("."), names.index(name)))
    for name in outer_first:
        if name in exact and not words.is_taken(name):
            words.take(name, alone=not any(within(unit, name) for unit in base.units))
    for unit in list(base.units.values()):
        if covered(unit.name, names) and not words.is_taken(unit.name):
            words.chosen[unit.name] = unit
    for name in outer_first:
        if not words.is_taken(name):
            words.take(name, alone=True)
    weighted = [n for n in outer_first if n in exact or base.traced.has_params(n)]
    words.finish(weighted)  # a glob or class is no word for what has no parameters


class _Words:
    """The choice of one network's units by word."""

    def __init__(self, base: Found, level: Level) -> None:
        self.base, self.traced, self.level = base, base.traced, level
        self.chosen: dict[str, Unit] = {}

    @cached_property
    def pools(self) -> list[Found]:
        """The units of every level, those of the asked one first."""
        others = []
        for level in LEVELS:
            if level != self.level:
                pool = Found(self.traced, self.base.rewrites)
                pool.by_rule(level)
                others.append(pool)
        return [self.base, *others]

    @cached_property
    def skips(self) -> Mapping[str, Candidate]:
        """The modules with a skip path of their own."""
        return candidates(self.traced)

    @cached_property
    def additions(self) -> list[ResidualAdd]:
        """The additions whose one side can go."""
        return find_residual_adds(self.traced)

    @cached_property
    def plain(self) -> dict[str, Unit]:
        """The plain runs outside of all units."""
        calls = list(self.base.calls.values())
        return {unit.name: unit for unit in plain_units(self.traced, outside=calls)}

    def is_taken(self, name: str) -> bool:
        """Tell whether a module lies in, or around, what goes with a chosen unit."""
        return any(
            within(name, part) or within(part, name)
            for unit in self.chosen.values()
            for part in (unit.name, *unit.parts, *unit.also)
        )

    def take(self, name: str, *, alone: bool) -> None:
        """Choose the unit of a name; `alone`: also a module that no unit holds."""
        unit = next((pool.units[name] for pool in self.pools if name in pool.units), None)
        if unit is None and not any(name in pool.locks for pool in self.pools):
            unit = self._other(name, alone=alone)
        if unit is not None and not any(self.is_taken(part) for part in unit.also):
            self.chosen[name] = unit

    def _other(self, name: str, *, alone: bool) -> Unit | None:
        traced = self.traced
        if name in self.skips:
            return whole_unit(traced, self.skips[name], "block")
        part = named_by_part(traced, self.additions, name, self.base.rewrites)
        if part is not None or not alone:
            return part
        if name in self.plain:
            return self.plain[name]
        call = traced.call(name)
        if call is None or self.why_not(name)[0]:
            return None
        stream = _kept_shape(traced, call)
        return whole_unit(traced, Candidate(name, call, stream), "plain") if stream else None

    def why_not(self, name: str) -> tuple[str, str]:
        """Return the reason and the detail of what keeps a module from going; ("", "") if none."""
        traced, call, times = self.traced, self.traced.call(name), self.traced.counts[name]
        if call is None:
            return "never called", "it is never called"
        if times > 1:
            return "shared", f"called {times} times"
        if not traced.has_params(name):
            return "no parameters", "it has no parameters; removing it alone saves nothing"
        if owner := self._owner(name, call):
            detail = f"it goes with the rest of {owner!r}; to offer that, write select=[{owner!r}]"
            return "part of a unit", detail
        stream = _kept_shape(traced, call)
        if stream is None:
            return "shape change", "none of its outputs has the shape of one of its inputs"
        if reader := goes_around(traced, call.start, call.end, stream.source, stream.sink):
            return "joined", (
                f"what enters it also goes around it, and meets what it makes in {reader}; handing "
                "its input on would compute something else"
            )
        return "", ""

    def _owner(self, name: str, call: Call) -> str:
        """Return the unit that a module without a shortcut of its own is a part of, or ""."""
        for pool in self.pools:
            held = {n: (n, *unit.parts, *unit.also) for n, unit in pool.units.items()}
            held |= {n: (n,) for n in pool.locks}
            for owner, parts in held.items():
                if any(within(name, part) and name != owner for part in parts):
                    return owner
        for addition in self.additions:
            if any(index in addition.dead for index in range(call.start, call.end)):
                gone = (*addition.parts, *addition.outside)
                return max(gone, key=lambda part: self.traced.saved_params([part]))
        return ""

    def finish(self, names: Sequence[str]) -> None:
        """Put the choice in the place of all units; lock what is named and is none."""
        base, traced = self.base, self.traced
        locks: dict[str, LockedUnit] = {}
        for pool in reversed(self.pools):
            locks |= {n: lock for n, lock in pool.locks.items() if covered(n, names)}
        base.locks = {n: lock for n, lock in locks.items() if not self.is_taken(n)}
        handed = {lock.name: lock for lock in dependencies(traced)}
        for name in names:
            known = any(within(name, n) or within(n, name) for n in base.locks)
            if known or self.is_taken(name) or self._covers_a_lock(name):
                continue
            reason, detail = self.why_not(name)
            lock = handed.get(name)
            if lock is None and reason:
                lock = locked_unit(traced, name, reason, detail)  # type: ignore[arg-type]
            if lock is not None:
                base.locks[name] = lock
        base.choose(self.chosen, list(self._streams()))

    def _covers_a_lock(self, name: str) -> bool:
        return any(within(n, name) for n in self.base.locks)

    def _streams(self) -> Iterator[tuple[str, Call, int, int]]:
        """Yield the streams of the chosen units: name, call, start and end."""
        for name, unit in self.chosen.items():
            for pool in self.pools:
                if name in pool.units and name in pool.sources:
                    yield name, pool.calls[name], pool.sources[name], pool.sinks[name]
                    break
            else:
                call = self.traced.call(name)
                stream = self.skips[name].stream if name in self.skips else None
                if stream is None and call is not None and unit.how != "branch":
                    stream = _kept_shape(self.traced, call)
                if stream is not None and call is not None:
                    yield name, call, stream.source, stream.sink


def _kept_shape(traced: TraceIndex, call: Call) -> Stream | None:
    """Return a stream from the first input to the first output of the same shape and dtype."""
    trace = traced.trace
    for out_path, sink in call.outputs:
        for in_path, source in call.inputs:
            same = trace.shapes[source] == trace.shapes[sink]
            if same and trace.dtypes[source] == trace.dtypes[sink]:
                return Stream(source, sink, frozenset(), in_path, out_path)
    return None
