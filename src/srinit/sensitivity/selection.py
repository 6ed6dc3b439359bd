"""Which units are among those with the smallest drops: accepted and rejected one by one.

A race as in successive accepts and rejects (Bubeck, Wang and Viswanathan 2013,
https://arxiv.org/abs/1205.3181), with the stopping rule of LUCB (Kalyanakrishnan et al. 2012,
https://icml.cc/2012/papers/359.pdf) and intervals that hold at all looks and for all units at
once: with at least their confidence together, no unit is ever accepted or rejected wrongly. All
open units are measured on the same examples, so that none is picked for the next look.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from srinit.records import record

Side = Literal["goes", "stays", "open"]
Interval = tuple[float, float]


@record
class Selection:
    """The units with the smallest drops, as far as they are known.

    Example:
        >>> found = select({"a": 0.0, "b": 0.1, "c": 0.3},
        ...     {"a": (0.0, 0.05), "b": (0.04, 0.2), "c": (0.25, 0.4)}, 1)
        >>> found.sides["c"], found.sides["a"], round(found.error, 2), found.line
        ('stays', 'open', 0.01, 0.05)
    """

    sides: dict[str, Side]
    line: float | None  # between the largest mean of what goes and the smallest of what stays
    error: float  # no unit that would go is worse by more than this than one that would stay


def select(means: Mapping[str, float], joint: Mapping[str, Interval], count: int) -> Selection:
    """Return on which side of the line between `count` units and the others each unit is.

    Args:
        means: Estimated drop of each unit.
        joint: Intervals of the drops that hold all together.
        count: How many units go.
    """
    total = len(means)
    if total <= count:
        return Selection(sides=dict.fromkeys(means, "goes"), line=None, error=0.0)
    sides: dict[str, Side] = {}
    for name, (low, high) in joint.items():
        above = sum(high < other for each, (other, _) in joint.items() if each != name)
        below = sum(other < low for each, (_, other) in joint.items() if each != name)
        sides[name] = "goes" if above >= total - count else "stays" if below >= count else "open"
    order = sorted(means, key=lambda name: means[name])
    first, last = order[:count], order[count:]
    worst = max(joint[name][1] for name in first)
    best = min(joint[name][0] for name in last)
    settled = "open" not in sides.values()
    return Selection(
        sides=sides,
        line=(means[first[-1]] + means[last[0]]) / 2,
        error=0.0 if settled else max(worst - best, 0.0),
    )
