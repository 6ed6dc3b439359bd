"""What gates hand on."""

from __future__ import annotations

from collections.abc import Mapping

from srinit.records import record

Limits = Mapping[str, float | Mapping[str, float]]
"""Name of a gate to its limit, or to one limit a class where the gate speaks of classes."""


@record
class Gate:
    """One limit, and how the comparison stands to it."""

    name: str
    limit: float
    measured: float | None
    bound: float | None  # the end of the interval that is judged
    passed: bool
    sentence: str


@record
class GateResult:
    """All gates of a comparison; it passes when every one does."""

    passed: bool
    gates: tuple[Gate, ...]

    @property
    def failed(self) -> tuple[Gate, ...]:
        """The gates that say no."""
        return tuple(gate for gate in self.gates if not gate.passed)
