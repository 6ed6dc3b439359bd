"""How many examples share a draw: what a precise answer costs, by a scheme selection's variances.

More draws over fewer examples each say more about the same number of forward passes; but a draw
has a cost of its own, and below a few hundred observations the interval is limited by their
bounds and not by their spread.
"""

from __future__ import annotations

from collections.abc import Sequence

from scipy.special import ndtri

from srinit.engine import Costs
from srinit.units.records import UnitMap

FIRST_PER_DRAW = 2
CHOICES = (1, 2, 3, 4, 6, 8)
BOUNDS = 120  # observations that the bounds [-1, 1] ask for besides, at a half-width of 0.02
SLACK = 1.2  # of the interval, over a normal one that is looked at once


def suffix_flops(units: UnitMap) -> dict[str, float]:
    """Return for every unit the FLOPs per example from it to the end (1 multiply-add: 2)."""
    entries = [(u.position, u.name, u.flops) for u in units.removable]
    entries += [(u.position, u.name, u.flops) for u in units.locked]
    left, found = float(units.flops), {}
    for _, name, flops in sorted(entries):
        found[name] = max(left, 0.0)
        left -= flops
    return found


def num_observations(variance: float, half_width: float, confidence: float) -> float:
    """Return about how many observations of this variance an interval needs."""
    z = float(-ndtri((1 - confidence) / 2))
    return SLACK * (z / half_width) ** 2 * variance + BOUNDS * 0.02 / half_width


def per_draw_for(
    variances: tuple[float, float],
    *,
    flops: float,
    params: int,
    half_width: float,
    confidence: float,
    costs: Costs,
    choices: Sequence[int] = CHOICES,
) -> int:
    """Return how many examples should share a draw of one unit.

    Args:
        variances: Between draws, and within a draw per example.
        flops: Per example, from the unit to the end.
        params: Parameters of the unit.
        half_width: Precision asked for.
        confidence: Of the interval.
        costs: Of the device.
        choices: Numbers to choose from.
    """
    between, within = variances
    draw = costs.per_draw + costs.per_param * params
    example = flops / costs.flops_per_second

    def seconds(per_draw: int) -> float:
        count = num_observations(between + within / per_draw, half_width, confidence)
        return count * (draw + per_draw * example)

    return min(choices, key=seconds)
