"""Areas under ROC curves of two networks on the same parts, with DeLong's intervals.

Source: DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988, https://doi.org/10.2307/2531595, by
midranks as in Sun and Xu, IEEE Signal Processing Letters 21, 2014,
https://doi.org/10.1109/LSP.2014.2337313.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from srinit.stats.paired import Floats, quantile

Ends = tuple[float, float]


def paired_auroc(
    one: Floats, other: Floats, defective: npt.NDArray[np.bool_], confidence: float
) -> tuple[tuple[float, Ends], tuple[float, Ends], Ends]:
    """Return both areas with their intervals, and the interval of what is lost, one - other.

    Where an area is 1, or nothing differs, DeLong's variance is 0; then the interval is what so few
    parts can rule out, as for means.

    Args:
        one: A number a part of the first network that rises with what speaks for a defect.
        other: Of the second network.
        defective: Which parts are; some, and not all.
        confidence: Two-sided.

    Example:
        >>> values, bad = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
        >>> paired_auroc(values, values, bad, 0.95)[0][0]
        0.75
    """
    bad, good = int(defective.sum()), int((~defective).sum())
    areas, parts_bad, parts_good = [], [], []
    for values in (one, other):
        pooled = rankdata(values)
        own = [rankdata(values[side]) for side in (defective, ~defective)]
        areas.append(float((pooled[defective].sum() - bad * (bad + 1) / 2) / (bad * good)))
        parts_bad.append((pooled[defective] - own[0]) / good)
        parts_good.append(1 - (pooled[~defective] - own[1]) / bad)
    covariance = sum(
        np.atleast_2d(np.cov(np.stack(parts), ddof=1)) / count if count > 1 else np.zeros((2, 2))
        for parts, count in ((parts_bad, bad), (parts_good, good))
    )
    least = 1 - (1 - confidence) ** (1 / min(bad, good))

    def ends(value: float, variance: float, low: float) -> Ends:
        reach = quantile(confidence) * math.sqrt(max(float(variance), 0.0)) or least
        return max(low, value - reach), min(1.0, value + reach)

    lost = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]  # type: ignore[index]
    return (
        (areas[0], ends(areas[0], covariance[0, 0], 0.0)),  # type: ignore[index]
        (areas[1], ends(areas[1], covariance[1, 1], 0.0)),  # type: ignore[index]
        ends(areas[0] - areas[1], lost, -1.0),
    )
