"""A/B and shadow operation: two models' logs, paired by image; how many images are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from srinit.comparison import Drop, Rate, drop, rate
from srinit.errors import DataError
from srinit.gates import examples_needed
from srinit.monitor.log import Prediction, PredictionLog
from srinit.records import Interval, record
from srinit.stats import paired
from srinit.stats.power import pairs_for_power
from srinit.stats.sequences import MeanSequence

BATCH = 20  # steps between two looks at what to aim for
SEQUENTIAL = 1.35  # examples of an anytime-valid interval over those of one that is looked at once


@record
class AnytimeInterval(Interval):
    """An interval that stays valid however often one looks while the data come in."""

    what: str  # "loss of accuracy" or "share of different answers"
    num_examples: int
    decision: Literal["within", "beyond", "undecided"]  # the margin; stop unless undecided


@record
class LogComparison:
    """Two models on the same images; positive losses mean that the second is worse."""

    models: tuple[str, str]
    paired: int  # images that both answered
    only_first: int
    only_second: int
    labeled: int  # paired images whose label is known
    margin: float
    confidence: float
    agreement: Rate
    score: Drop | None  # of the labeled pairs
    lost: int
    gained: int
    p_value: float | None  # exact McNemar
    confidence_shift: float  # mean change of the logged confidence
    latency_ms: tuple[float, float]  # medians
    anytime: AnytimeInterval
    note: str = ""


def compare_logs(
    first: PredictionLog,
    second: PredictionLog,
    *,
    margin: float = 0.01,
    confidence: float = 0.95,
) -> LogComparison:
    """Return how the models of two logs compare on the images that both answered.

    An image that a log holds more than once counts with its first answer. The anytime-valid
    interval takes the pairs in the order of the second log; it is the one to judge by if the
    logs are still growing. With labels it is about the loss of accuracy, without about the share
    of different answers, which bounds the loss.

    Args:
        first: The present model, such as the unpruned one.
        second: The other one.
        margin: Loss that is acceptable.
        confidence: Of every interval.

    Raises:
        DataError: A log holds several models, or no image is in both.
    """
    one, other = _by_image(first, "first"), _by_image(second, "second")
    common = [image for image in other if image in one]
    if not common:
        raise DataError("the two logs have no image in common; `image` must be the same in both.")
    labels = {**first.labels, **second.labels}
    equal = np.array([one[i].prediction == other[i].prediction for i in common])
    known = [i for i in common if i in labels]
    right = np.array(
        [[log[i].prediction == labels[i] for i in known] for log in (one, other)], dtype=bool
    ).reshape(2, len(known))
    lost = int((right[0] & ~right[1]).sum())
    gained = int((~right[0] & right[1]).sum())
    score = None
    if known:
        score = drop(right[0].astype(float), right[1].astype(float), confidence, binary=True)
        steps = (right[0].astype(float) - right[1]).tolist()
        anytime = sequential(steps, "loss of accuracy", margin=margin, confidence=confidence)
    else:
        anytime = sequential(
            (~equal).astype(float).tolist(), "share of different answers",
            margin=margin, confidence=confidence,
        )  # fmt: skip
    change = [other[i].confidence - one[i].confidence for i in common]
    return LogComparison(
        models=(next(iter(one.values())).model, next(iter(other.values())).model),
        paired=len(common),
        only_first=len(one) - len(common),
        only_second=len(other) - len(common),
        labeled=len(known),
        margin=margin,
        confidence=confidence,
        agreement=rate(int(equal.sum()), len(equal), confidence),
        score=score,
        lost=lost,
        gained=gained,
        p_value=paired.mcnemar_exact(lost, gained) if known else None,
        confidence_shift=float(np.mean(change)),
        latency_ms=(
            float(np.median([one[i].latency_ms for i in common])),
            float(np.median([other[i].latency_ms for i in common])),
        ),
        anytime=anytime,
        note="" if known else "no labels: the loss is at most the share of different answers",
    )  # fmt: skip


def _by_image(log: PredictionLog, which: str) -> dict[str, Prediction]:
    models = sorted({found.model for found in log.predictions})
    if len(models) != 1:
        names = ", ".join(name[:12] for name in models) or "none"
        raise DataError(
            f"the {which} log should hold the predictions of one model, found: {names}."
        )
    found: dict[str, Prediction] = {}
    for prediction in log.predictions:
        found.setdefault(prediction.image, prediction)
    return found


def sequential(
    steps: Sequence[float], what: str, *, margin: float, confidence: float
) -> AnytimeInterval:
    """Return the anytime-valid interval of the mean of `steps`, and what it says of the margin.

    One may look after every step and stop as soon as the decision is not "undecided": the
    chance that the interval ever misses the mean is below 1 - confidence.

    Args:
        steps: Paired differences in [-1, 1], in their order.
        what: Name of the mean.
        margin: Value that decides.
        confidence: Of the interval.

    Example:
        >>> sequential([0.0] * 1500, "loss", margin=0.02, confidence=0.95).decision
        'within'
    """
    sequence = MeanSequence(low=-1.0, high=1.0, confidences=(confidence,), target=margin)
    decision: Literal["within", "beyond", "undecided"] = "undecided"
    for first in range(0, len(steps), BATCH):
        sequence.update(steps[first : first + BATCH])
        # The stakes aim at telling the mean from the margin; they use the past alone.
        sequence.aim(0, half_width=max(margin, 0.9 * abs(sequence.mean - margin)))
    low, high = sequence.interval(0)
    if high <= margin:
        decision = "within"
    elif low > margin:
        decision = "beyond"
    return AnytimeInterval(
        value=sequence.mean,
        low=low,
        high=high,
        confidence=confidence,
        what=what,
        num_examples=sequence.count,
        decision=decision,
    )


@record
class SamplePlan:
    """How many labeled pairs show that a loss is within a margin."""

    margin: float
    discordant: float  # share of images that only one of the models gets right
    expected_drop: float
    power: float
    confidence: float
    num_examples: int  # looked at once, at the end
    num_sequential: int  # about so many if one looks all the time


def plan_test(
    margin: float,
    *,
    discordant: float,
    expected_drop: float = 0.0,
    power: float = 0.8,
    confidence: float = 0.95,
) -> SamplePlan:
    """Return how many labeled images an A/B test needs.

    The chance that the interval then ends within the margin is computed exactly
    (`srinit.stats.power`); never less than the gate needs if no prediction changes.

    Args:
        margin: Loss that is acceptable, a fraction.
        discordant: Share of images that exactly one model gets right, e.g. from a comparison.
        expected_drop: Loss that is really there.
        power: Chance that the test then succeeds.
        confidence: Of the two-sided interval that judges.

    Raises:
        ValueError: The margin does not exceed the expected loss, or a share is out of range.

    Example:
        >>> plan_test(0.01, discordant=0.05).num_examples
        3992
    """
    if not 0 < margin <= 1 or expected_drop >= margin:
        raise ValueError(f"the margin {margin} must exceed the expected loss {expected_drop}.")
    if not 0 <= discordant <= 1 or abs(expected_drop) > max(discordant, 0):
        raise ValueError(
            f"the loss {expected_drop} cannot exceed the discordant share {discordant}."
        )
    if not 0 < power < 1:
        raise ValueError(f"the power must lie in (0, 1), not {power}.")
    needed = pairs_for_power(
        power,
        margin=margin,
        discordant=discordant,
        drop=expected_drop,
        quantile=paired.quantile(confidence),
    )
    count = max(needed, int(examples_needed("max_drop", margin, confidence)))
    return SamplePlan(
        margin=margin,
        discordant=discordant,
        expected_drop=expected_drop,
        power=power,
        confidence=confidence,
        num_examples=count,
        num_sequential=math.ceil(SEQUENTIAL * count),
    )
