"""What the scan hands on: for every unit the score lost when it is re-initialized."""

from __future__ import annotations

from typing import Literal

from srinit.records import record
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
    low: float | None  # anytime-valid interval of this unit alone, at `Sensitivity.confidence`
    high: float | None
    joint_low: float | None  # the same, holding for all units at once
    joint_high: float | None
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


@record
class SchemeTrial:
    """One candidate of `scheme="auto"` in the pilot."""

    scheme: str
    scale: float
    reliability: float | None  # variance between units / (that + variance of a unit's mean)
    saturated: float  # share of units at floor or ceiling
    chosen: bool
    num_units: int = 0  # that the pilot tried it on
    merit_low: float | None = None  # reliability times the share not saturated: 95 % of its
    merit_high: float | None = None  # values on resampled units


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
    baseline_score: float
    num_examples: int  # distinct examples seen
    seed: int
    stopped_by: str  # "precision", "decision" or "data"
    precision: str = "equal"  # or "decide": wide intervals where all is clear
    num_remove: int | None = None  # how many units go, where precision follows that
    selection_error: float | None = (
        None  # by how much one that goes may be worse than one that stays
    )
    scheme_reason: str = ""  # why this scheme, in words
    trials: tuple[SchemeTrial, ...] = ()
    scheme_certainty: float | None = None  # share of resamples of the pilot with the same choice
    seconds: float | None = None  # not part of what is reproducible; None in files

    def __getitem__(self, name: str) -> UnitSensitivity:
        for unit in self.units:
            if unit.unit == name:
                return unit
        raise KeyError(name)
