"""Compares two networks on data without labels: where do they answer differently?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from srinit import modules
from srinit.comparison.differences import rate
from srinit.comparison.paired import MAX_LISTED
from srinit.comparison.records import Rate
from srinit.errors import DataError
from srinit.evaluate import Outcomes, batches_of, check_rereadable, evaluate
from srinit.records import Interval, record
from srinit.stats import paired


@record
class Flip:
    """Examples that one class lost to another."""

    baseline: str  # class that the baseline says; "not finite" where it gives NaN
    pruned: str
    count: int


@record
class Unlabeled:
    """Answers of both networks on the same unlabeled examples; says nothing about who is right."""

    num_examples: int
    confidence: float
    agreement: Rate  # share of equal predictions
    flipped: tuple[int, ...]  # positions of the others; at most 200
    flips: tuple[Flip, ...]  # the same by class, the most frequent first
    confidence_shift: Interval  # mean change of the top probability, pruned - baseline


def compare_unlabeled(
    baseline: nn.Module,
    pruned: nn.Module,
    data: Iterable[tuple[Any, Any]],
    *,
    class_names: Sequence[str] = (),
    confidence: float = 0.95,
) -> Unlabeled:
    """Return how far two classifiers agree on data whose labels are unknown or not to be used.

    The accuracies of the two networks differ by at most the share of flipped examples, whatever
    the labels are: `1 - agreement.low` bounds the loss.

    Args:
        baseline: The unpruned network; neither network is changed.
        pruned: The pruned one.
        data: Re-iterable of batches `(inputs, anything)` or dicts of inputs, the same both times.
        class_names: In the order of the outputs.
        confidence: Of the intervals: exact for the agreement, Student's for the shift.

    Raises:
        DataError: There is no example, or the data can be read only once.

    Example:
        >>> model, data = nn.Linear(2, 3), [(torch.eye(2), None)]
        >>> compare_unlabeled(model, model, data).agreement.rate
        1.0
    """
    check_rereadable(data, "a comparison")
    batches = Unread(data, baseline)
    return unlabeled_outcomes(
        evaluate(baseline, batches),
        evaluate(pruned, batches),
        class_names=class_names,
        confidence=confidence,
    )


def unlabeled_outcomes(
    one: Outcomes, other: Outcomes, *, class_names: Sequence[str] = (), confidence: float = 0.95
) -> Unlabeled:
    """Return the same for outcomes that are there already; their scores are not looked at.

    Raises:
        DataError: The outcomes are of different examples.
    """
    if one.num_examples != other.num_examples:
        raise DataError("the data gave other examples when they were read again.")
    # What is not finite is no answer: it agrees with nothing.
    equal = (one.predictions == other.predictions) & one.finite & other.finite
    change = other.confidence - one.confidence
    low, high = paired.mean_interval(change, confidence)
    flipped = np.flatnonzero(~equal)

    def name(index: int) -> str:
        if index < 0:
            return "not finite"
        return class_names[index] if index < len(class_names) else str(index)

    pairs = zip(one.predictions[flipped].tolist(), other.predictions[flipped].tolist(), strict=True)
    return Unlabeled(
        num_examples=one.num_examples,
        confidence=confidence,
        agreement=rate(int(equal.sum()), len(equal), confidence),
        flipped=tuple(flipped[:MAX_LISTED].tolist()),
        flips=tuple(
            Flip(baseline=name(before), pruned=name(after), count=count)
            for (before, after), count in Counter(pairs).most_common()
        ),
        confidence_shift=Interval(
            value=float(change.mean()), low=low, high=high, confidence=confidence
        ),
    )


class Unread:
    """Batches whose targets are all class 0, so that nothing of the labels is ever read."""

    def __init__(self, data: Iterable[Any], model: nn.Module | None = None) -> None:
        self.data, self.model = data, model

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        for inputs, _ in batches_of(self.data, self.model):
            yield inputs, torch.zeros(modules.batch_size(inputs), dtype=torch.long)
