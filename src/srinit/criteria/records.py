"""What a criterion hands on: a number for every unit, lower goes first."""

from __future__ import annotations

from srinit.records import Interval, record


@record
class UnitScore:
    """What one criterion says of one unit; a lower score means: remove it earlier."""

    unit: str  # fully qualified name
    score: float | None  # None: it could not be scored
    interval: Interval | None = None  # where the criterion has one
    reason: str = ""  # why it was not scored

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return None if self.interval is None else self.interval.low

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""
        return None if self.interval is None else self.interval.high


@record
class UnitScores:
    """One criterion's scores of all removable units, in order of execution.

    Scores of different criteria are different quantities: a `removal_drop` (the unit removed) is
    not a `reinit_drop` (the unit re-initialized), and neither is a similarity.
    """

    criterion: str  # its name, with what else it depends on: "reinit_drop (keep_norm)"
    units: tuple[UnitScore, ...]
    is_drop: bool  # scores are losses of the task's score, fractions in [-1, 1]
    num_examples: int  # calibration examples behind it; 0: it reads none
    seed: int
    confidence: float = 0.95
    baseline_score: float | None = None  # of the unpruned network, where it was measured

    def __getitem__(self, name: str) -> UnitScore:
        for unit in self.units:
            if unit.unit == name:
                return unit
        raise KeyError(name)

    @property
    def order(self) -> tuple[str, ...]:
        """Names of the scored units, first to remove first; ties in order of execution."""
        scored = [unit for unit in self.units if unit.score is not None]
        return tuple(unit.unit for unit in sorted(scored, key=lambda unit: unit.score or 0.0))
