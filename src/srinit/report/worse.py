"""Classes that are recognized less often than before, in words."""

from __future__ import annotations

from srinit.comparison.records import ClassChange
from srinit.comparison.worse import worse_classes
from srinit.report import formats as fmt
from srinit.report.data import ReportInput
from srinit.report.text import LocalizedText, Translator


def worse_class_text(row: ClassChange, say: Translator) -> LocalizedText:
    """Return the fall of one class in words."""
    return say(
        "worse.class",
        name=row.name,
        before=fmt.percent(row.recall.baseline),
        after=fmt.percent(row.recall.pruned),
        range=fmt.ends(
            fmt.points(row.recall.low, 1, signed=False),
            fmt.points(row.recall.high, 1, signed=False),
        ),
        num=fmt.fixed(row.num_examples),
    )


def worse_view(report: ReportInput, say: Translator) -> tuple[LocalizedText, ...]:
    """Return a sentence for every class that got worse."""
    return tuple(worse_class_text(row, say) for row in worse_classes(report.comparison))
