"""Compares two networks example by example; measures, does not judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from srinit.comparison.records import (
    ClassChange,
    Comparison,
    CostSide,
    DefectRisk,
    Difference,
    Rate,
)
from srinit.errors import ConfigError, DataError
from srinit.evaluate import Outcomes, Scorer, evaluate, top1
from srinit.latency import LatencyPair
from srinit.stats import paired

MAX_LISTED = 200
Bools = npt.NDArray[np.bool_]


def compare(
    baseline: nn.Module,
    pruned: nn.Module,
    data: Iterable[tuple[Any, Any]],
    *,
    scorer: Scorer = top1,
    class_names: Sequence[str] = (),
    defect_class: str | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """Return the comparison of two networks on `data`, which is read once for each.

    Args:
        baseline: The unpruned network; neither network is changed.
        pruned: The pruned one.
        data: Re-iterable of `(inputs, target)` batches, the same both times.
        scorer: Per-example score in [0, 1].
        class_names: In the order of the model's outputs.
        defect_class: The class that means defective.
        confidence: Of every interval, two-sided.
    """
    return compare_outcomes(
        evaluate(baseline, data, scorer=scorer),
        evaluate(pruned, data, scorer=scorer),
        class_names=class_names,
        defect_class=defect_class,
        confidence=confidence,
    )


def compare_outcomes(
    baseline: Outcomes,
    pruned: Outcomes,
    *,
    class_names: Sequence[str] = (),
    defect_class: str | None = None,
    confidence: float = 0.95,
    cost: CostSide | None = None,
    latency: tuple[LatencyPair, ...] = (),
    data: str = "",
    data_hash: str = "",
) -> Comparison:
    """Return the comparison of two networks' outcomes on the same examples, in the same order.

    Right-or-wrong scores get Tango's score interval and the exact McNemar test, other scores
    Student's interval of the paired differences. `cost`, `latency`, `data` and `data_hash` are
    put into the record as they are.

    Raises:
        DataError: The outcomes are of different examples.
        ConfigError: There is no class `defect_class`.
    """
    if baseline.num_examples != pruned.num_examples or not np.array_equal(
        baseline.targets, pruned.targets
    ):
        raise DataError("the two networks were not measured on the same examples.")
    one, other = baseline.scores, pruned.scores
    binary = bool(np.isin(one, (0.0, 1.0)).all() and np.isin(other, (0.0, 1.0)).all())
    lost, gained = one > other, one < other
    classes = _classes(baseline, pruned, class_names, confidence) if binary else ()
    has_classes = len(baseline.predictions) > 0
    agree = baseline.predictions == pruned.predictions if has_classes else ~(lost | gained)
    shift = float((pruned.confidence - baseline.confidence).mean()) if has_classes else None
    return Comparison(
        num_examples=len(one),
        confidence=confidence,
        score=_difference(one, other, confidence, binary=binary),
        p_value=paired.mcnemar_exact(int(lost.sum()), int(gained.sum())) if binary else None,
        lost=int(lost.sum()),
        gained=int(gained.sum()),
        agreement=rate(int(agree.sum()), len(agree), confidence),
        confidence_shift=shift,
        nonfinite_baseline=float(1 - baseline.finite.mean()),
        nonfinite_pruned=float(1 - pruned.finite.mean()),
        classes=classes,
        defects=_defects(baseline, pruned, class_names, defect_class, confidence),
        newly_wrong=tuple(np.flatnonzero(lost)[:MAX_LISTED].tolist()),
        newly_right=tuple(np.flatnonzero(gained)[:MAX_LISTED].tolist()),
        cost=cost,
        latency=latency,
        data=data,
        data_hash=data_hash,
    )


def rate(hits: int, total: int, confidence: float) -> Rate:
    """Return a share with its exact interval."""
    low, high = paired.clopper_pearson(hits, total, confidence)
    return Rate(hits=hits, total=total, rate=hits / total if total else None, low=low, high=high)


def _difference(
    one: npt.NDArray[np.float64],
    other: npt.NDArray[np.float64],
    confidence: float,
    *,
    binary: bool,
) -> Difference:
    total = len(one)
    if total == 0:
        return Difference(baseline=None, pruned=None, drop=None, low=-1.0, high=1.0, num_examples=0)
    if binary:
        lost, gained = int((one > other).sum()), int((one < other).sum())
        low, high = paired.tango_interval(lost, gained, total, confidence)
    else:
        low, high = paired.mean_interval(one - other, confidence)
    return Difference(
        baseline=float(one.mean()),
        pruned=float(other.mean()),
        drop=float(one.mean() - other.mean()),
        low=low,
        high=high,
        num_examples=total,
    )


def _classes(
    baseline: Outcomes, pruned: Outcomes, names: Sequence[str], confidence: float
) -> tuple[ClassChange, ...]:
    if len(baseline.targets) == 0:
        return ()
    count = max(len(names), int(baseline.targets.max()) + 1)
    labels = [names[i] if i < len(names) else str(i) for i in range(count)]
    p_values, rows = [], []
    for index in range(count):
        of_class = baseline.targets == index
        one, other = baseline.scores[of_class], pruned.scores[of_class]
        p_values.append(paired.mcnemar_exact(int((one > other).sum()), int((one < other).sum())))
        rows.append(_difference(one, other, confidence, binary=True))
    adjusted = paired.holm(p_values)
    return tuple(
        ClassChange(
            name=labels[index],
            num_examples=rows[index].num_examples,
            recall=rows[index],
            precision_baseline=_precision(baseline, index),
            precision_pruned=_precision(pruned, index),
            p_value=p_values[index],
            p_adjusted=adjusted[index],
        )
        for index in range(count)
    )


def _precision(outcomes: Outcomes, index: int) -> float | None:
    predicted = outcomes.predictions == index
    return float((outcomes.targets[predicted] == index).mean()) if predicted.any() else None


def _defects(
    baseline: Outcomes,
    pruned: Outcomes,
    names: Sequence[str],
    defect_class: str | None,
    confidence: float,
) -> DefectRisk | None:
    if defect_class is None:
        return None
    if defect_class not in names:
        raise ConfigError(f"there is no class {defect_class!r}; the classes are {list(names)}.")
    index = list(names).index(defect_class)
    defective = baseline.targets == index
    missed = [(o.predictions != index)[defective] for o in (baseline, pruned)]
    rejected = [(o.predictions == index)[~defective] for o in (baseline, pruned)]
    return DefectRisk(
        defect_class=defect_class,
        missed_baseline=rate(int(missed[0].sum()), len(missed[0]), confidence),
        missed_pruned=rate(int(missed[1].sum()), len(missed[1]), confidence),
        missed_increase=_increase(missed[0], missed[1], confidence),
        rejected_baseline=rate(int(rejected[0].sum()), len(rejected[0]), confidence),
        rejected_pruned=rate(int(rejected[1].sum()), len(rejected[1]), confidence),
        rejected_increase=_increase(rejected[0], rejected[1], confidence),
        note=_sample_note(missed[1], confidence),
    )


def _increase(before: Bools, after: Bools, confidence: float) -> Difference:
    """Return the rise of an error rate: positive is worse."""
    risen = _difference(after.astype(float), before.astype(float), confidence, binary=True)
    return Difference(
        baseline=risen.pruned,
        pruned=risen.baseline,
        drop=risen.drop,
        low=risen.low,
        high=risen.high,
        num_examples=risen.num_examples,
    )


def _sample_note(missed: Bools, confidence: float) -> str:
    if len(missed) == 0:
        return "no defective example in the data: nothing is known about missed defects"
    high = paired.clopper_pearson(int(missed.sum()), len(missed), confidence)[1]
    return (
        f"{int(missed.sum())} misses in {len(missed)} defects show only that the miss rate is "
        f"below about {100 * high:.2g} %"
    )
