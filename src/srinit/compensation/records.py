"""What compensation hands on: the network, what was tried, and what was chosen why."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from srinit.realignment import LeftMap, SolvedMap
from srinit.records import Interval, record


@record
class Candidate:
    """One thing that may be done after a cut, judged on examples that it was not fitted on."""

    name: str  # "nothing", "recalibrated", "folded", "realigned", ...
    # Mean distance of its answers from the unpruned network's, smaller is better; None where one is
    # not finite.
    divergence: float | None
    # Divergence of "nothing" minus this one's, paired, positive is better; None where answers are
    # not finite, or fewer than two.
    gain: Interval | None

    @property
    def distance(self) -> float:
        """The divergence; infinite where an answer is not finite."""
        return math.inf if self.divergence is None else self.divergence

    @property
    def is_surely_nearer(self) -> bool:
        """Whether the whole interval of the gain is positive."""
        return self.gain is not None and self.gain.low > 0


@record
class Skipped:
    """One thing that was not tried, and why."""

    name: str
    reason: str


@record
class Choice:
    """What was done after a cut, among what, on how many examples; JSON of a `Compensation`."""

    chosen: str
    candidates: tuple[Candidate, ...]
    solved: tuple[SolvedMap, ...]
    left: tuple[LeftMap, ...]
    num_fitted: int  # examples that the chosen one was fitted on
    num_held_out: int  # others, that chose it
    confidence: float
    measure: str  # how answers are compared: "probabilities" (classes) or "squared" (values)
    skipped: tuple[Skipped, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Compensation:
    """A cut network with what makes up for the cut, and the record of the choice."""

    model: nn.Module
    choice: Choice

    @property
    def chosen(self) -> str:
        """Name of the candidate that was taken; "nothing" where none was surely better."""
        return self.choice.chosen
