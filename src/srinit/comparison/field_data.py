"""Both networks on the site's own data, with labels or without: where do they differ?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from srinit.comparison.paired import MAX_LISTED
from srinit.comparison.records import Comparison
from srinit.comparison.unlabeled import Unlabeled
from srinit.evaluate import Outcomes
from srinit.records import record
from srinit.store import csv_text

NO_ANSWER = "not finite"


@record
class FlippedExample:
    """An example that the two networks answer differently."""

    name: str  # path or row
    baseline: str  # class
    pruned: str
    label: str = ""  # empty: unknown
    confidence_baseline: float = 0.0  # of the answer
    confidence_pruned: float = 0.0


@record
class FieldComparison:
    """The comparison on data of the site, apart from the test data."""

    data: str  # which data
    data_hash: str
    num_examples: int
    num_labeled: int
    comparison: Comparison | None  # on the labeled examples
    unlabeled: Unlabeled | None  # on all, where some have no label
    flipped: tuple[FlippedExample, ...]  # at most 200


def flipped_examples(
    one: Outcomes,
    other: Outcomes,
    names: Sequence[str],
    class_names: Sequence[str],
    *,
    labels: npt.NDArray[np.int64] | None = None,
) -> tuple[FlippedExample, ...]:
    """Return the examples with different answers, at most 200; none for tasks without classes.

    Args:
        one: Outcomes of the unpruned network.
        other: Those of the pruned one, on the same examples.
        names: Of the examples, for people.
        class_names: In the order of the outputs.
        labels: Class of every example, -1 where it is unknown; by default the targets.
    """
    known = one.targets if labels is None else labels
    if len(one.predictions) == 0:
        return ()

    def title(index: int, unknown: str = NO_ANSWER) -> str:
        if index < 0:
            return unknown
        return class_names[index] if index < len(class_names) else str(index)

    places = np.flatnonzero((one.predictions != other.predictions) | ~one.finite | ~other.finite)
    return tuple(
        FlippedExample(
            name=names[place],
            baseline=title(int(one.predictions[place])),
            pruned=title(int(other.predictions[place])),
            label=title(int(known[place]), ""),
            confidence_baseline=float(one.confidence[place]),
            confidence_pruned=float(other.confidence[place]),
        )
        for place in places[:MAX_LISTED]
    )


def field_csv(site: FieldComparison) -> str:
    """Return the flipped examples as a table."""
    head = ("label", "baseline", "pruned", "confidence_baseline", "confidence_pruned")
    rows = ([row.name, *(getattr(row, name) for name in head)] for row in site.flipped)
    return csv_text(("example", *head), rows)
