"""What the errors of both networks cost per piece, and where they cost the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from srinit.comparison.defects import Costs
from srinit.comparison.differences import rise
from srinit.comparison.records import ErrorCost, Rise
from srinit.evaluate import Outcomes
from srinit.stats import paired

Floats = npt.NDArray[np.float64]
SMALLEST = 1e-12


def error_cost(
    baseline: Outcomes,
    pruned: Outcomes,
    names: Sequence[str],
    costs: Costs | None,
    *,
    defects: Sequence[str] = (),
    defect_share: float | None = None,
    confidence: float = 0.95,
) -> ErrorCost | None:
    """Return the expected cost of errors of one piece in both networks; None without costs.

    Every true class is a stratum, weighted by its share of the pieces. In a stratum the cost
    is a sum of steps ("costs at least so much"), each a paired difference of two proportions
    with Tango's interval; their reaches are added, since the steps are nested. Strata are
    independent of each other, so their reaches are added in quadrature (MOVER; Zou and Donner,
    Statistics in Medicine 27, 2008, https://doi.org/10.1002/sim.3095).

    Args:
        baseline: Outcomes of the unpruned network.
        pruned: Those of the pruned one, on the same examples.
        names: All classes.
        costs: What errors cost; no answer at all costs as much as the worst error.
        defects: Classes that mean defective.
        defect_share: Share of all pieces that are defective; None: as in the data.
        confidence: Of the interval.
    """
    if not costs:
        return None
    matrix = cost_matrix(names, costs)
    counts = np.bincount(baseline.targets[baseline.targets >= 0], minlength=len(names))
    is_defect = np.isin(np.asarray(names), list(defects))
    weights = class_weights(counts, is_defect, defect_share)
    paid = [matrix[baseline.targets, outcomes.predictions] for outcomes in (baseline, pruned)]
    share = float(weights[is_defect].sum())
    parts = _parts(baseline, pruned, paid, weights / np.maximum(counts, 1), is_defect)
    risen = _rise_of(baseline.targets, paid, counts, weights, matrix, confidence)
    miss, reject = _of_one(matrix, weights, is_defect), _of_one(matrix, weights, ~is_defect)
    miss_rate = _miss_rate(pruned, is_defect)
    return ErrorCost(
        costs={name: dict(row) for name, row in costs.items()},
        defect_share=share if defects else None,
        share_given=defect_share is not None,
        increase=risen,
        missed=parts[0],
        rejected=parts[1],
        mixed=parts[2],
        cost_of_miss=miss,
        cost_of_reject=reject,
        break_even_miss_rate=_even_rate(risen.value, miss_rate, share, miss),
        break_even_ratio=_even_ratio(parts, miss, reject),
    )


def cost_matrix(names: Sequence[str], costs: Costs) -> Floats:
    """Return costs by true and predicted class; the last column is that of no answer (-1)."""
    matrix = np.array([[costs.get(t, {}).get(p, 0.0) for p in names] for t in names], dtype=float)
    return np.hstack([matrix, matrix.max(axis=1, keepdims=True)])


def class_weights(
    counts: npt.NDArray[np.int64], is_defect: npt.NDArray[np.bool_], share: float | None
) -> Floats:
    """Return the share of the pieces that every class has.

    A kind (defective, good) without one example keeps its share, spread over its classes:
    nothing is known about it, and the interval says so.
    """
    weights: Floats = np.zeros(len(counts))
    if share is None:
        weights += counts / max(counts.sum(), 1)
        return weights
    for group, part in ((is_defect, share), (~is_defect, 1 - share)):
        total = counts[group].sum()
        weights[group] = part * (counts[group] / total if total else 1 / max(group.sum(), 1))
    return weights


def unchanged_reach(
    counts: npt.NDArray[Any], weights: Floats, matrix: Floats, confidence: float
) -> float:
    """Return how far the interval of the cost reaches if not one prediction changes."""
    z2 = paired.quantile(confidence) ** 2
    return float(np.sqrt(((weights * matrix.max(axis=1) * z2 / (counts + z2)) ** 2).sum()))


def _rise_of(
    targets: npt.NDArray[np.int64],
    paid: Sequence[Floats],
    counts: npt.NDArray[np.int64],
    weights: Floats,
    matrix: Floats,
    confidence: float,
) -> Rise:
    means, low, high, known = [0.0, 0.0], 0.0, 0.0, len(targets) > 0
    for index in np.flatnonzero(weights > 0):
        top = weights[index] * matrix[index].max()
        if counts[index] == 0:
            low, high, known = low + top**2, high + top**2, known and top == 0
            continue
        before, after = (costs[targets == index] for costs in paid)
        down, up = _reach(before, after, matrix[index], confidence)
        low, high = low + (weights[index] * down) ** 2, high + (weights[index] * up) ** 2
        for place, costs in enumerate((before, after)):
            means[place] += float(weights[index] * costs.mean())
    change = means[1] - means[0]
    return Rise(
        baseline=means[0] if known else None,
        pruned=means[1] if known else None,
        value=change if known else None,
        low=change - math.sqrt(low),
        high=change + math.sqrt(high),
        confidence=confidence,
        num_examples=len(targets),
    )


def _reach(before: Floats, after: Floats, row: Floats, confidence: float) -> tuple[float, float]:
    """Return how far the interval of one class's mean rise goes down and up from it.

    `row` holds the costs of the class's errors, also of those that did not happen.
    """
    down = up = last = 0.0
    for level in np.unique(row[row > 0]):
        found = rise(before >= level, after >= level, confidence)
        assert found.value is not None
        down += (level - last) * (found.value - found.low)
        up += (level - last) * (found.high - found.value)
        last = float(level)
    return down, up


def _parts(
    baseline: Outcomes,
    pruned: Outcomes,
    paid: Sequence[Floats],
    each: Floats,
    is_defect: npt.NDArray[np.bool_],
) -> tuple[float, float, float]:
    """Return the rise of the cost that comes from misses, from rejections, and from the rest."""
    defective = is_defect[baseline.targets]
    weight, found = each[baseline.targets], []
    none = [outcomes.predictions < 0 for outcomes in (baseline, pruned)]
    called = [
        is_defect[outcomes.predictions] & ~gone
        for outcomes, gone in zip((baseline, pruned), none, strict=True)
    ]
    for of_kind, called_so in ((defective, False), (~defective, True)):
        costs = [
            np.where(of_kind & (c == called_so), p, 0.0) for c, p in zip(called, paid, strict=True)
        ]
        found.append(float((weight * (costs[1] - costs[0])).sum()))
    total = float((weight * (paid[1] - paid[0])).sum())
    rest = total - sum(found)
    return found[0], found[1], rest if abs(rest) > SMALLEST * max(1.0, abs(total)) else 0.0


def _of_one(matrix: Floats, weights: Floats, rows: npt.NDArray[np.bool_]) -> float | None:
    """Return the mean cost of calling a piece of these classes one of the others."""
    if not rows.any() or rows.all() or weights[rows].sum() == 0:
        return None
    worst = matrix[:, :-1][np.ix_(rows, ~rows)].max(axis=1)
    return float((weights[rows] * worst).sum() / weights[rows].sum())


def _miss_rate(pruned: Outcomes, is_defect: npt.NDArray[np.bool_]) -> float | None:
    defective = is_defect[pruned.targets]
    missed = ~is_defect[pruned.predictions] | (pruned.predictions < 0)
    return float(missed[defective].mean()) if defective.any() else None


def _even_rate(
    rise: float | None, miss_rate: float | None, share: float, miss: float | None
) -> float | None:
    if rise is None or miss_rate is None or not miss or share <= 0:
        return None
    return min(1.0, max(0.0, miss_rate - rise / (share * miss)))


def _even_ratio(
    parts: tuple[float, float, float], miss: float | None, reject: float | None
) -> float | None:
    missed, rejected, mixed = parts
    if not miss or not reject or abs(missed) < SMALLEST:
        return None
    factor = -(rejected + mixed) / missed
    return factor * miss / reject if factor > 0 else None
