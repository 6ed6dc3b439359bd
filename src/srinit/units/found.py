"""The units of one network while they are being chosen: found, locked, put in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from srinit import modules
from srinit.recording import Call, TraceIndex, find_residual_adds, side_output_of, within
from srinit.units.branches import branches
from srinit.units.bypass import RewriteCache, gone_from
from srinit.units.choose import Candidate, candidates, choose
from srinit.units.dependencies import dependencies
from srinit.units.describe import locked, whole_unit
from srinit.units.fingerprint import fingerprint
from srinit.units.near_misses import near_misses, shared
from srinit.units.patterns import covered
from srinit.units.records import Kind, LockedUnit, Unit, UnitMap
from srinit.units.structure import provided

Level = Literal["block", "sublayer", "stage"]


class Found:
    """The units of one network while they are being chosen.

    Args:
        traced: The recorded forward.
        rewrites: Sites without their branches, for the trial runs.
    """

    def __init__(self, traced: TraceIndex, rewrites: RewriteCache) -> None:
        self.traced = traced
        self.rewrites = rewrites
        self.units: dict[str, Unit] = {}
        self.locks: dict[str, LockedUnit] = {}
        self.calls: dict[str, Call] = {}
        self.sources: dict[str, int] = {}
        self.sinks: dict[str, int] = {}

    def by_rule(self, level: Level) -> None:
        """Add what the skip-path rule finds, and the branches outside of it."""
        traced = self.traced
        choice = choose(traced, candidates(traced))
        additions = find_residual_adds(traced)
        kinds: dict[str, Kind] = dict.fromkeys(choice.units, "block")
        chosen: Mapping[str, Candidate] = choice.units
        if level == "stage":
            stages = {
                name: candidate
                for name, candidate in choice.above.items()
                if not any(name != other and within(name, other) for other in choice.above)
            }
            inner = {n: c for n, c in chosen.items() if not any(within(n, s) for s in stages)}
            chosen = {**inner, **stages}
            kinds |= dict.fromkeys(stages, "stage")
        elif level == "sublayer":
            chosen = self._halves(choice.units, choice.below)
            kinds |= dict.fromkeys(choice.below, "sublayer")
        for name, candidate in chosen.items():
            if not self.overlaps(name):
                self.whole(candidate, kinds[name])
        for lock in shared(traced, self.units):
            self.locks[lock.name] = lock
        calls = list(self.calls.values())
        calls += [call for call in traced.trace.calls if call.name in self.locks]
        self._branches(additions, calls, "branch" if level != "sublayer" else "sublayer")

    def _halves(
        self, units: Mapping[str, Candidate], below: Mapping[str, Candidate]
    ) -> dict[str, Candidate]:
        """Return units with one addition whole, and of the others what is a module of its own."""
        single = {
            name: candidate
            for name, candidate in units.items()
            if len(candidate.stream.additions) == 1
            and not any(within(other, name) for other in below)
        }
        return {**single, **below}

    def _branches(self, additions: list[Any], calls: list[Call], kind: Kind) -> None:
        units, locks = branches(
            self.traced, additions, outside=calls, kind=kind, rewrites=self.rewrites
        )
        by_name = {addition.site.name: addition for addition in additions}
        for unit in units:
            if unit.name in self.units or self.overlaps(unit.name):
                continue
            self.units[unit.name] = unit
            addition = by_name.get(unit.name)
            if addition is not None:
                self.calls[unit.name] = addition.site
                if addition.site.inputs and addition.site.outputs:
                    self.sources[unit.name] = addition.site.inputs[0][1]
                    self.sinks[unit.name] = addition.site.outputs[0][1]
        for lock in locks:
            self.locks.setdefault(lock.name, lock)

    def whole(self, candidate: Candidate, kind: Kind) -> None:
        """Add a module that goes as a whole."""
        self.units[candidate.name] = whole_unit(self.traced, candidate, kind)
        self.calls[candidate.name] = candidate.call
        self.sources[candidate.name] = candidate.stream.source
        self.sinks[candidate.name] = candidate.stream.sink

    def overlaps(self, name: str) -> bool:
        """Tell whether a module lies in one that is spoken for, or around it."""
        taken = (*self.units, *self.locks)
        return any(within(name, other) or within(other, name) for other in taken)

    def add(self, units: Iterable[Unit]) -> None:
        """Add units found in another way."""
        for unit in units:
            self.units.setdefault(unit.name, unit)

    def choose(
        self, units: Mapping[str, Unit], streams: Iterable[tuple[str, Call, int, int]]
    ) -> None:
        """Let these be the units, with their streams; streams of others stay where none lies in.

        Args:
            units: The choice.
            streams: Name, call, start and end of the choice's streams.
        """
        self.units = dict(units)
        for name in list(self.sources):
            if any(within(name, n) or within(n, name) for n in self.units):
                self.calls.pop(name), self.sources.pop(name), self.sinks.pop(name)
        for name, call, source, sink in streams:
            self.calls[name], self.sources[name], self.sinks[name] = call, source, sink

    def add_near_misses(self) -> None:
        """Add the near-misses."""
        also = [name for unit in self.units.values() for name in unit.also]
        for lock in dependencies(self.traced):
            gone = [*also, *(part for unit in self.units.values() for part in unit.parts)]
            if not self.overlaps(lock.name) and not any(within(lock.name, n) for n in gone):
                self.locks[lock.name] = lock
        for lock in near_misses(self.traced, [*self.units, *self.locks, *also]):
            self.locks[lock.name] = lock

    def lock_dependencies_and_side_outputs(self, *, free: Iterable[Any] = ()) -> None:
        """Lock units that later parts need, and those whose output is collected elsewhere."""
        everyone = [(self.calls[name], source) for name, source in self.sources.items()]
        for name in list(self.units):
            unit, call, sink = self.units[name], self.calls.get(name), self.sinks.get(name)
            if call is None or sink is None:
                continue
            made = ""
            if unit.how != "branch":
                made = provided(self.traced, call, unit.output, sink)
            if made:
                detail = f"it computes {made} that later parts use; nothing could take its place"
                self.locks[name] = locked(self.units.pop(name), "dependency", detail)
                continue
            reader = side_output_of(self.traced, call, sink, everyone)
            if reader and name not in free:
                detail = (
                    f"its output is also used by {reader}, which would get that of the unit "
                    f"before it; to allow that, write select=[..., {name!r}]"
                )
                self.locks[name] = locked(self.units.pop(name), "side output", detail)

    def lock_kept(self, protected: list[str]) -> None:
        """Lock what the user protects."""
        for name in list(self.units):
            unit = self.units[name]
            gone = (*(gone_from(unit) if unit.how == "branch" else (name,)), *unit.also)
            held = [k for k in protected if any(within(k, part) for part in gone)]
            if any(covered(part, protected) for part in (name, *gone)):
                detail = "protected by keep; take it out of keep to free it"
            elif held:
                detail = f"{held[0]} would go with it, and keep protects that"
            else:
                continue
            self.locks[name] = locked(self.units.pop(name), "kept", detail)

    def map(self, inputs: object, note: str) -> UnitMap:
        """Return the records, in order of execution."""
        traced = self.traced
        last = len(traced.trace.calls)

        def place(name: str) -> tuple[int, str]:
            call = traced.call(name)
            return (last if call is None else call.number, name)

        order = sorted([*self.units, *self.locks], key=place)
        positions = {name: position for position, name in enumerate(order)}
        network = fingerprint(traced.model)
        return UnitMap(
            removable=tuple(
                replace(self.units[name], position=positions[name], network=network)
                for name in order
                if name in self.units
            ),
            locked=tuple(
                replace(self.locks[name], position=positions[name])
                for name in order
                if name in self.locks
            ),
            params=modules.count_params(traced.model),
            flops=sum(op.flops for op in traced.trace.ops) // traced.trace.batch,
            inputs=inputs,
            note="" if self.units else note,
            not_counted=tuple(sorted(traced.trace.not_counted)),
        )
