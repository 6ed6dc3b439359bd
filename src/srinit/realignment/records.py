"""What realignment says of each linear map: solved again, or left as it is."""

from __future__ import annotations

from srinit.records import record


@record
class SolvedMap:
    """One linear map that was solved again."""

    name: str  # key of its weight in the cut network
    lacking_before: float  # squared distance to its target, relative to the target's square
    lacking_after: float  # the same with the new weight, on the inputs it was fitted on
    rows: int  # positions of all examples that were read
    strength: float | None = None  # of the penalty; None: the bias alone changed


@record
class LeftMap:
    """A linear map behind the cut that stays as it is, and why."""

    name: str
    reason: str
