"""What `find_units` hands on: the units of a network, removable or locked, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Any, Literal

from srinit.records import record
from srinit.tables import Shown, Table, percent

Kind = Literal["block", "branch", "sublayer", "stage", "plain"]
How = Literal["delete", "passthrough", "branch"]
Reason = Literal[
    "shape change",  # its output has another shape and there is no shortcut to keep
    "shared",  # called several times
    "dependency",  # it computes something that later parts use
    "side output",  # its output is collected outside the stream
    "never called",
    "verification failed",
    "kept",  # the user said so
    "gated",  # its sum with the shortcut is weighted, and no value of the network is left of it
    "joined",  # what enters it also goes around it; handing it on would compute something else
    "part of a unit",  # it goes with the rest of a branch
    "no parameters",  # removing it alone would save nothing
    "opaque",  # its forward is compiled, scripted or quantized
]


@record
class Unit:
    """A submodule that can be removed.

    Shapes are of the stream it stands in, without the batch dimension.
    """

    name: str  # fully qualified, as in `named_modules()`
    kind: Kind
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    params: int  # what its removal saves
    flops: int  # what its removal saves per example; one multiply-add counts 2
    position: int  # order of execution among all units, removable and locked, from 0
    stage: str = ""  # units of one stage share it (same resolution, same container)
    how: How = "delete"  # how it is removed
    parts: tuple[str, ...] = ()  # submodules of it that go, by their names in the model; empty: all
    verified: bool = True  # a forward without it ran and kept structure, shape, dtype, finiteness
    class_name: str = ""
    output: Any = None  # structure of a pass-through's output, see `srinit.units.passthrough`
    site: str | None = None  # module that executes the addition of a branch; None: the unit itself
    also: dict[str, Any] = field(default_factory=dict)  # further modules that go -> their stand-in
    network: str = ""  # in which it was found, see `srinit.units.fingerprint`; "": not known


@record
class LockedUnit:
    """A near-miss: what stands in the way of removing it."""

    name: str
    kind: Kind
    reason: Reason
    detail: str  # one sentence: what was found, and what to write to change it
    params: int
    flops: int = 0
    position: int = 0
    stage: str = ""
    in_shape: tuple[int, ...] = ()
    out_shape: tuple[int, ...] = ()
    class_name: str = ""


@record
class UnitMap(Shown):
    """The units of one network, in order of execution."""

    removable: tuple[Unit, ...]
    locked: tuple[LockedUnit, ...]
    params: int  # of the whole network
    flops: int  # of the whole network, per example; one multiply-add counts 2
    inputs: Any = None  # structure, shapes and dtypes of the example inputs (JSON)
    note: str = ""  # why there are none, where there are none
    not_counted: tuple[str, ...] = ()  # operations whose arithmetic the FLOPs leave out

    def __iter__(self) -> Iterator[Unit]:
        """Iterate over the removable units."""
        return iter(self.removable)

    def __len__(self) -> int:
        return len(self.removable)

    def __getitem__(self, name: str) -> Unit:
        for unit in self.removable:
            if unit.name == name:
                return unit
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the removable units, in order of execution."""
        return tuple(unit.name for unit in self.removable)

    def _table(self) -> Table:
        """Return the units as `print` and a notebook show them."""
        known: list[Unit | LockedUnit] = [*self.removable, *self.locked]
        rows = tuple(
            (
                unit.name,
                unit.class_name or unit.kind,
                f"{unit.params:,}",
                percent(unit.params / max(self.params, 1)),
                percent(unit.flops / max(self.flops, 1)),
                f"locked: {unit.reason}" if isinstance(unit, LockedUnit) else "can go",
            )
            for unit in sorted(known, key=lambda unit: unit.position)
        )
        title = (
            f"{len(self.removable)} units can go, {len(self.locked)} are locked; the network has "
            f"{self.params:,} parameters and takes {self.flops:,} FLOPs an example"
        )
        return Table(
            title=title + (f" ({self.note})" if self.note else ""),
            head=("unit", "class", "params", "of all", "of FLOPs", ""),
            rows=rows,
        )
