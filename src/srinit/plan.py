"""Which units go, in which order, on what evidence: `make_plan` and the plan's JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from srinit import records
from srinit.errors import PlanError
from srinit.records import record
from srinit.sensitivity.records import Sensitivity, UnitSensitivity
from srinit.units.records import Unit, UnitMap

SCHEMA = "srinit.plan/1"


@record
class Removal:
    """One unit that goes, and why."""

    unit: Unit
    evidence: dict[str, float | None]  # e.g. {"reinit_drop": .., "low": .., "high": ..}


@record
class Prefix:
    """The network after the first `num_removed` removals of the ranking."""

    num_removed: int
    params: int
    flops: int  # per example; one multiply-add counts 2
    latency_ms: dict[str, float] | None = None  # median, by batch size ("1", "64")
    measured: bool = False  # True: the network was built and counted; False: summed over units


@record
class PrunePlan:
    """Units to remove, first to last; planning and executing are apart.

    `ranking` lists every removable unit, least important first; the plan removes `remove`,
    which is a prefix of it unless units were named by hand.
    """

    remove: tuple[Removal, ...]
    ranking: tuple[str, ...]
    prefixes: tuple[Prefix, ...]  # len(ranking) + 1 entries
    target: dict[str, Any]  # what was asked for, e.g. {"max_drop": 0.02}
    criterion: str  # what the ranking rests on, e.g. "reinit_drop"
    inputs: Any = None  # structure of example inputs, for the check after surgery
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the units that go, first to last."""
        return tuple(removal.unit.name for removal in self.remove)

    def to_json(self) -> str:
        """Return the readable file form; `PrunePlan.from_json` reads it back, equal."""
        return records.to_json(self, schema=SCHEMA)

    @classmethod
    def from_json(cls, text: str, *, where: str = "the plan") -> PrunePlan:
        """Return the plan that `to_json` wrote.

        Raises:
            ConfigError: Not a plan; every problem is listed.
        """
        return records.from_json(cls, text, schema=SCHEMA, where=where)
