"""Kinds of error: which class is taken for which, before and after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from srinit.records import record
from srinit.report import formats as fmt
from srinit.report.samples import class_name
from srinit.runs.kinds import PairedOutcomes

MOST = 12  # kinds of error that the page shows
FEWEST_CLASSES = 3  # of two classes the errors are those of the classes


@record
class ConfusionPair:
    """One class taken for another: class indices, and how many examples in each network."""

    truth: int
    answer: int
    before: int
    after: int


@record
class ConfusionRow:
    """One kind of error as the page shows it."""

    truth: str
    answer: str
    before: str
    after: str
    change: str


def confusion_pairs_of(predictions: PairedOutcomes) -> tuple[ConfusionPair, ...]:
    """Return every kind of error of both networks, in order of the classes.

    Empty where answers are no classes.
    """
    truths = predictions.baseline.targets
    answers = [side.predictions for side in (predictions.baseline, predictions.pruned)]
    if truths.ndim != 1 or not len(truths):  # tokens, pixels, a score alone
        return ()
    if any(found.shape != truths.shape for found in answers):
        return ()
    counts = [Counter(zip(truths.tolist(), found.tolist(), strict=True)) for found in answers]
    kinds = sorted({kind for count in counts for kind in count if kind[0] != kind[1]})
    return tuple(
        ConfusionPair(truth=truth, answer=answer, before=counts[0][kind], after=counts[1][kind])
        for kind in kinds
        for truth, answer in (kind,)
    )


def confusion_rows(
    found: Sequence[ConfusionPair], names: Sequence[str]
) -> tuple[ConfusionRow, ...]:
    """Return the kinds of error that changed most, then the most frequent ones."""
    if len(names) < FEWEST_CLASSES:
        return ()
    order = sorted(found, key=lambda m: (-abs(m.after - m.before), -(m.after + m.before)))
    return tuple(
        ConfusionRow(
            truth=class_name(names, mistake.truth),
            answer=fmt.NOTHING if mistake.answer < 0 else class_name(names, mistake.answer),
            before=fmt.fixed(mistake.before),
            after=fmt.fixed(mistake.after),
            change=fmt.fixed(mistake.after - mistake.before, signed=True),
        )
        for mistake in order[:MOST]
    )
