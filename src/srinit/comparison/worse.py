"""Classes that are recognized less often than before, as far as the data show it."""

from __future__ import annotations

from srinit.comparison.records import ClassChange, Comparison


def worse_classes(found: Comparison | None) -> tuple[ClassChange, ...]:
    """Return the classes whose recall fell significantly, the largest fall first.

    The p-values are adjusted for the number of classes; for a class that means defective its own
    interval is enough, since nobody looks at a defect class because it stood out by chance.
    """
    if found is None:
        return ()
    alpha = 1 - found.confidence
    defects = {row.name for row in found.defects.classes} if found.defects else set()
    if found.defects is not None and not defects:
        defects = {found.defects.defect_class}
    fell = [
        row
        for row in found.classes
        if (row.recall.drop or 0.0) > 0
        and (row.p_adjusted < alpha or (row.name in defects and row.recall.low > 0))
    ]
    return tuple(sorted(fell, key=lambda row: -(row.recall.drop or 0.0)))
