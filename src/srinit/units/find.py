"""Finds what may be removed from a network, and says of every near-miss what stands in the way."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from torch import nn

from srinit import modules
from srinit.errors import ConfigError, ModelError, SurgeryError
from srinit.specs import describe
from srinit.units import branch
from srinit.units.choose import CONTAINERS, Candidate, Choice, candidates, choose
from srinit.units.records import LockedUnit, Reason, Unit, UnitMap
from srinit.units.rule import short, stream_of
from srinit.units.trace import Call, Trace, Value, record
from srinit.units.verify import run, verify

Level = Literal["block", "sublayer", "stage"]


def find_units(
    model: nn.Module, example_inputs: Any, *, keep: Iterable[str] = (), level: Level = "block"
) -> UnitMap:
    """Return the removable units of a network, and its near-misses with what locks them.

    One forward is recorded and the units are found in it, so any module will do; then the
    network is run without them. The model, its modes, hooks and the random state are the same
    afterwards, also when it raises.

    Args:
        model: Any module.
        example_inputs: What it takes: a tensor, a tuple (arguments) or a dict (keywords); a
            batch of two or more.
        keep: Names or globs of units to protect.
        level: "block"; "sublayer" for the halves of blocks that are modules of their own;
            "stage" for whole runs of blocks that keep their shape.

    Raises:
        ModelError: The model does not run on the inputs.
        ConfigError: A pattern in `keep` matches no unit.

    Example:
        >>> from torch.nn import TransformerEncoder, TransformerEncoderLayer
        >>> layer = TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> model = TransformerEncoder(layer, 3, enable_nested_tensor=False)
        >>> find_units(model, torch.zeros(2, 4, 8)).names
        ('layers.0', 'layers.1', 'layers.2')
    """
    try:
        trace = record(model, example_inputs)
        expected = run(model, example_inputs)
    except Exception as error:  # the model's own code may fail in any way
        shapes = [tuple(tensor.shape) for tensor in modules.tensors(example_inputs)]
        raise ModelError(
            f"the model does not run on the example inputs {shapes}: "
            f"{type(error).__name__}: {error}"
        ) from error
    finder = _Finder(model, trace, choose(model, candidates(model, trace)), level)
    units = finder.units()
    failed = verify(model, example_inputs, units, expected)
    for name, text in failed.items():
        finder.lock(units.pop(name), "verification failed", f"without it the network fails: {text}")
    for name in _matching(keep, [*units, *(lock.name for lock in finder.locked)]):
        if name in units:
            finder.lock(
                units.pop(name), "kept", "protected by keep; take it out of keep to free it"
            )
    names = [*units, *(lock.name for lock in finder.locked)]
    order = sorted(names, key=lambda name: finder.place[name])
    positions = {name: position for position, name in enumerate(order)}
    return UnitMap(
        removable=tuple(
            sorted(
                (replace(unit, position=positions[unit.name]) for unit in units.values()),
                key=lambda unit: unit.position,
            )
        ),
        locked=tuple(
            sorted(
                (replace(lock, position=positions[lock.name]) for lock in finder.locked),
                key=lambda lock: lock.position,
            )
        ),
        params=modules.count_params(model),
        flops=sum(op.flops for op in trace.ops) // trace.batch,
        inputs=describe(example_inputs),
        note="" if units else _why_none(model),
    )


def _matching(keep: Iterable[str], names: list[str]) -> set[str]:
    found: set[str] = set()
    for pattern in keep:
        hits = {name for name in names if fnmatch.fnmatchcase(name, pattern)}
        if not hits:
            raise ConfigError(
                f"keep names {pattern!r}, which matches no unit; the units are "
                f"{', '.join(names[:12])}{' ...' if len(names) > 12 else ''}."
            )
        found |= hits
    return found


def _why_none(model: nn.Module) -> str:
    return (
        f"no unit was found: {type(model).__name__} has no module whose output is its input plus "
        "a branch. Networks of plain layers have none by this rule."
    )


class _Finder:
    """Builds the records of one network's units."""

    def __init__(self, model: nn.Module, trace: Trace, choice: Choice, level: Level) -> None:
        self.trace, self.choice, self.level = trace, choice, level
        self.named = dict(model.named_modules())
        self.counts = Counter(call.name for call in trace.calls)
        self.place: dict[str, int] = {}
        for call in trace.calls:
            self.place.setdefault(call.name, call.number)
        self.locked: list[LockedUnit] = []

    def units(self) -> dict[str, Unit]:
        """Return the units by name, and lock what comes close."""
        chosen = self._at_level()
        units = {}
        for name, candidate in chosen.items():
            unit, provides = self._unit(candidate)
            if provides:
                self.lock(unit, "provider", provides)
            else:
                units[name] = unit
        for name in self._relatives(chosen):
            self._near_miss(name, units)
        return units

    def _at_level(self) -> dict[str, Candidate]:
        units, below, above = self.choice.units, self.choice.below, self.choice.above
        if self.level == "sublayer":
            whole = {n: c for n, c in units.items() if not any(_in(b, n) for b in below)}
            return {**whole, **below}
        if self.level == "stage":
            stages = {n: c for n, c in above.items() if not any(_in(n, other) for other in above)}
            return {
                **{n: c for n, c in units.items() if not any(_in(n, s) for s in stages)},
                **stages,
            }
        return dict(units)

    def _unit(self, candidate: Candidate) -> tuple[Unit, str]:
        """Return the record of a unit, and what it provides to others, if anything."""
        call, stream = candidate.call, candidate.stream
        provides: list[str] = []
        arguments = {value: path for path, value in reversed(call.inputs)}
        arguments[stream.sink] = stream.source_path

        def fill(tree: Any) -> Any:
            if isinstance(tree, Value):
                if tree.number in arguments:
                    return {"argument": list(arguments[tree.number])}
                if any(reader >= call.end for reader in self.trace.readers.get(tree.number, ())):
                    provides.append(str(self.trace.shapes[tree.number]))
                return {"value": None}
            if isinstance(tree, dict):
                items = {key: fill(value) for key, value in tree["items"].items()}
                return {"dict": items, "class": tree["class"]}
            if isinstance(tree, tuple | list):
                kind = "tuple" if isinstance(tree, tuple) else "list"
                return {kind: [fill(value) for value in tree]}
            plain = tree if isinstance(tree, str | int | float | bool | None) else None
            return {"value": plain}

        structure = fill(call.output)
        shape = self.trace.shapes[stream.source][1:]
        unit = Unit(
            name=candidate.name,
            kind=_kind(self.level, candidate.name, self.choice),
            in_shape=shape,
            out_shape=shape,
            params=self._params(candidate.name),
            flops=self.trace.flops(call),
            position=0,
            stage=self._stage(candidate.name, shape),
            how="delete" if self._in_container(candidate.name) else "passthrough",
            class_name=type(self.named[candidate.name]).__name__,
            output=structure,
        )
        reason = (
            f"it computes a value {', '.join(provides)} that later parts use; "
            "removing it would leave them without"
        )
        return unit, reason if provides else ""

    def _params(self, name: str) -> int:
        return modules.count_params(self.named[name])

    def _stage(self, name: str, shape: tuple[int, ...]) -> str:
        return f"{name.rpartition('.')[0]}@{'x'.join(map(str, shape))}"

    def _in_container(self, name: str) -> bool:
        return isinstance(self.named[name.rpartition(".")[0]], CONTAINERS)

    def _relatives(self, chosen: Mapping[str, Candidate]) -> list[str]:
        """Return the modules that look like units, and are none."""
        classes = {type(self.named[name]) for name in chosen}
        parents = {name.rpartition(".")[0] for name in chosen if self._in_container(name)}
        found: list[str] = []
        for name, module in self.named.items():
            if not name or name in chosen or isinstance(module, CONTAINERS):
                continue
            if any(_in(name, unit) for unit in (*chosen, *found)):
                continue
            sibling = name.rpartition(".")[0] in parents
            shared = self.counts[name] > 1 and self._would_be(name)
            if (sibling or type(module) in classes or shared or self._changes_shape(name)) and (
                next(module.parameters(), None) is not None
            ):
                found.append(name)
        return found

    def _would_be(self, name: str) -> bool:
        return stream_of(self.trace, self.trace.calls_of(name)[0]) is not None

    def _changes_shape(self, name: str) -> bool:
        """Tell whether an element of a container adds a shortcut to a branch of another shape."""
        if not self._in_container(name) or self.counts[name] != 1:
            return False
        call = self.trace.calls_of(name)[0]
        if not call.inputs or not call.outputs or call.output is None:
            return False
        one, other = (self.trace.shapes[side[0][1]] for side in (call.inputs, call.outputs))
        adds = any(short(op) == "add" for op in self.trace.ops[call.start : call.end])
        return one != other and len(one) == len(other) and adds

    def _near_miss(self, name: str, units: dict[str, Unit]) -> None:
        calls = self.trace.calls_of(name)
        if len(calls) != 1:
            times = f"called {len(calls)} times" if calls else "never called"
            reason: Reason = "shared" if calls else "never called"
            self._lock_name(name, calls, reason, f"it is {times} in one forward")
            return
        call = calls[0]
        try:
            found = branch.find_branch(self.named[name])
        except SurgeryError as error:
            same = (
                call.inputs
                and call.outputs
                and self._shape(call.inputs) == self._shape(call.outputs)
            )
            what = "it has no shortcut" if same else "it changes the shape"
            self._lock_name(name, calls, "shape change", f"{what}, and {error}")
            return
        parts = tuple(f"{name}.{part}" for part in found.parts)
        units[name] = Unit(
            name=name,
            kind="branch",
            in_shape=self._shape(call.inputs),
            out_shape=self._shape(call.outputs),
            params=branch.count(self.named[name], found.parts),
            flops=sum(self.trace.flops(c) for part in parts for c in self.trace.calls_of(part)),
            position=0,
            stage=self._stage(name, self._shape(call.outputs)),
            how="branch",
            parts=parts,
            class_name=type(self.named[name]).__name__,
        )

    def _shape(self, values: list[tuple[Any, int]]) -> tuple[int, ...]:
        return self.trace.shapes[values[0][1]][1:] if values else ()

    def _lock_name(self, name: str, calls: list[Call], reason: Reason, detail: str) -> None:
        call = calls[0] if calls else None
        self.place.setdefault(name, len(self.trace.calls))
        self.locked.append(
            LockedUnit(
                name=name,
                kind="block",
                reason=reason,
                detail=detail,
                params=self._params(name),
                flops=sum(self.trace.flops(c) for c in calls),
                stage=self._stage(name, self._shape(call.outputs) if call else ()),
                in_shape=self._shape(call.inputs) if call else (),
                out_shape=self._shape(call.outputs) if call else (),
                class_name=type(self.named[name]).__name__,
            )
        )

    def lock(self, unit: Unit, reason: Reason, detail: str) -> None:
        """Record a unit as locked."""
        self.locked.append(
            LockedUnit(
                name=unit.name,
                kind=unit.kind,
                reason=reason,
                detail=detail,
                params=unit.params,
                flops=unit.flops,
                stage=unit.stage,
                in_shape=unit.in_shape,
                out_shape=unit.out_shape,
                class_name=unit.class_name,
            )
        )


def _in(name: str, outer: str) -> bool:
    return name.startswith(f"{outer}.")


def _kind(level: Level, name: str, choice: Choice) -> Literal["block", "sublayer", "stage"]:
    if level == "stage" and name in choice.above:
        return "stage"
    return "sublayer" if name in choice.below else "block"
