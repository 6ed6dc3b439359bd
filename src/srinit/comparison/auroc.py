"""How well two networks tell defective parts from good ones, whatever the threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from srinit.comparison.differences import Bools, Floats, rise
from srinit.comparison.records import AurocChange, Drop
from srinit.evaluate import Outcomes
from srinit.records import Interval
from srinit.stats.auroc import paired_auroc

FALSE_REJECTS = 0.05  # share of good parts at which missed defects are compared


def auroc_change(
    baseline: Outcomes,
    pruned: Outcomes,
    names: Sequence[str],
    defects: Sequence[str],
    confidence: float,
) -> AurocChange | None:
    """Return both areas under the ROC curve; None where nothing says what speaks for a defect."""
    if not len(baseline.evidence) or not defects:
        return None
    bad = np.isin(baseline.targets, [list(names).index(name) for name in defects])
    if not 0 < bad.sum() < len(bad):
        return None
    one, other, lost = paired_auroc(baseline.evidence, pruned.evidence, bad, confidence)
    missed = [_missed(each.evidence, bad) for each in (baseline, pruned)]
    sides = [
        Interval(value=value, low=low, high=high, confidence=confidence)
        for value, (low, high) in (one, other)
    ]
    return AurocChange(
        baseline=sides[0],
        pruned=sides[1],
        loss=Drop(
            value=one[0] - other[0],
            low=lost[0],
            high=lost[1],
            confidence=confidence,
            baseline=one[0],
            pruned=other[0],
            num_examples=len(bad),
        ),
        missed=rise(missed[0], missed[1], confidence),
        false_rejects=FALSE_REJECTS,
        num_good=int((~bad).sum()),
        num_defective=int(bad.sum()),
    )


def _missed(evidence: Floats, bad: Bools) -> Bools:
    """Return which defects are missed by the lowest threshold that rejects so few good parts.

    It is set on the very parts that it is judged on, so that two networks are compared at the same
    share of false rejects; what the choice of the threshold adds to the interval is left out.
    """
    good = np.sort(evidence[~bad])[::-1]
    threshold = good[min(int(FALSE_REJECTS * len(good)), len(good) - 1)]
    missed: Bools = evidence[bad] <= threshold
    return missed
