"""What the scan hands on: for every unit the score lost when it is re-initialized."""

from __future__ import annotations

from typing import Literal

from srinit.records import Interval, record
from srinit.units.records import UnitMap

Decision = Literal["redundant", "needed", "undecided", "not measured"]


@record
class UnitSensitivity:
    """Score lost when one unit is re-initialized, with its uncertainty.

    Drops are baseline minus perturbed score, paired example by example: fractions in [-1, 1].
    """

    unit: str  # fully qualified name
    removable: bool = True  # locked units are measured too, for the picture
    reinit_drop: float | None  # mean over draws and examples; None: not measured
    interval: Interval | None  # anytime-valid, of this unit alone; None: one draw has none
    joint: Interval | None  # the same, holding for all units at once
    num_draws: int
    num_examples: int  # unit-image evaluations behind the estimate
    draw_spread: float | None  # standard deviation of the drop between draws
    balanced_drop: float | None  # mean of the per-class drops; None without classes
    top_share: float | None  # share of the most frequent prediction when re-initialized
    nonfinite: float  # share of outputs with NaN or infinity (counted as wrong)
    decision: Decision
    selection: str = ""  # among `Sensitivity.num_remove` with the smallest drops: goes, stays, open
    reason: str = ""  # why it was not measured, is undecided, or is suspicious (collapsed)
    observations: tuple[float, ...] = ()  # single drops (one a draw), thinned to at most 64

    @property
    def low(self) -> float | None:
        """Lower end of the interval of this unit alone."""
        return None if self.interval is None else self.interval.low

    @property
    def high(self) -> float | None:
        """Upper end of the interval of this unit alone."""
        return None if self.interval is None else self.interval.high

    @property
    def joint_low(self) -> float | None:
        """Lower end of the interval that holds for all units at once."""
        return None if self.joint is None else self.joint.low

    @property
    def joint_high(self) -> float | None:
        """Upper end of the interval that holds for all units at once."""
        return None if self.joint is None else self.joint.high


@record
class SchemeTrial:
    """One candidate of `scheme="auto"` in the selection."""

    scheme: str
    scale: float
    reliability: float | None  # variance between units / (that + variance of a unit's mean)
    saturated: float  # share of units at floor or ceiling
    chosen: bool
    num_units: int = 0  # that the selection tried it on
    score: Interval | None = None  # reliability times the share not saturated; of resampled units


@record
class Sensitivity:
    """The scan of one network: all records are measured on the same examples."""

    units: tuple[UnitSensitivity, ...]  # in order of execution
    unit_map: UnitMap
    scheme: str
    scale: float
    confidence: float
    half_width: float | None  # the precision that was asked for
    max_drop: float | None  # the limit that decisions refer to, if one was asked for
    baseline_score: float | None  # None: the scan was left out
    num_examples: int  # distinct examples seen
    seed: int
    stopped_by: str  # "precision", "decision", "data", or "off": the scan was left out
    precision: str = "equal"  # or "decide": wide intervals where all is clear
    num_remove: int | None = None  # how many units go, where precision follows that
    selection_error: float | None = (
        None  # by how much one that goes may be worse than one that stays
    )
    scheme_reason: str = ""  # why this scheme, in words
    trials: tuple[SchemeTrial, ...] = ()
    scheme_certainty: float | None = None  # share of resamples of it with the same choice
    seconds: float | None = None  # not part of what is reproducible; None in files

    @property
    def is_off(self) -> bool:
        """Whether the scan was left out (`unscanned`): no unit was measured."""
        return self.stopped_by == "off"

    def __getitem__(self, name: str) -> UnitSensitivity:
        for unit in self.units:
            if unit.unit == name:
                return unit
        raise KeyError(name)


def unscanned(units: UnitMap, *, confidence: float = 0.95, seed: int = 0) -> Sensitivity:
    """Return what stands in for a scan that was left out: the units, and no measurement.

    Args:
        units: Of the network.
        confidence: Of the intervals of other criteria.
        seed: Of the run.
    """
    return Sensitivity(
        units=(), unit_map=units, scheme="off", scale=1.0, confidence=confidence, half_width=None,
        max_drop=None, baseline_score=None, num_examples=0, seed=seed, stopped_by="off",
    )  # fmt: skip
