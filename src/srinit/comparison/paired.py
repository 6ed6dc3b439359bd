"""Compares two networks example by example; measures, does not judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from srinit.comparison.auroc import auroc_change
from srinit.comparison.costs import error_cost
from srinit.comparison.counts import counts_of
from srinit.comparison.defects import Costs, defect_risk, find_defects
from srinit.comparison.differences import drop, rate
from srinit.comparison.perplexity import perplexity_change
from srinit.comparison.records import ClassChange, Comparison, CostSide
from srinit.comparison.together import every, shared_outcomes
from srinit.distributed import ProcessGroup
from srinit.errors import DataError
from srinit.evaluate import Outcomes, Scorer, check_rereadable, top1
from srinit.latency import LatencyPair
from srinit.stats import paired

MAX_LISTED = 200


def compare(
    baseline: nn.Module,
    pruned: nn.Module,
    data: Iterable[tuple[Any, Any]],
    *,
    scorer: Scorer = top1,
    class_names: Sequence[str] = (),
    defect_class: str | Sequence[str] | None = None,
    costs: Costs | None = None,
    defect_share: float | None = None,
    confidence: float = 0.95,
    ranks: ProcessGroup | None = None,
) -> Comparison:
    """Return the comparison of two networks on `data`, which is read once for each.

    Args:
        baseline: The unpruned network; neither network is changed.
        pruned: The pruned one.
        data: Re-iterable of batches, `(inputs, target)` or dicts with `labels`, the same both
            times.
        scorer: Per-example score in [0, 1].
        class_names: In the order of the model's outputs.
        defect_class: The class, or classes, that mean defective.
        costs: What errors cost: true class to predicted class to cost.
        defect_share: Share of all pieces that are defective, for the costs; None: as in the data.
        confidence: Of every interval, two-sided.
        ranks: Processes that share the batches (`srinit.distributed.process_group`); all of them
            must call this, with the same data, and get the same.

    Raises:
        DataError: There is no example, or the data can be read only once.
    """
    check_rereadable(data, "a comparison")
    serve = every(data)
    return compare_outcomes(
        shared_outcomes(baseline, serve, scorer=scorer, ranks=ranks),
        shared_outcomes(pruned, serve, scorer=scorer, ranks=ranks),
        class_names=class_names,
        defect_class=defect_class,
        costs=costs,
        defect_share=defect_share,
        confidence=confidence,
    )


def compare_outcomes(
    baseline: Outcomes,
    pruned: Outcomes,
    *,
    class_names: Sequence[str] = (),
    defect_class: str | Sequence[str] | None = None,
    costs: Costs | None = None,
    defect_share: float | None = None,
    confidence: float = 0.95,
    cost: CostSide | None = None,
    latency: tuple[LatencyPair, ...] = (),
    documents: npt.NDArray[Any] | None = None,
    data: str = "",
    data_hash: str = "",
) -> Comparison:
    """Return the comparison of two networks' outcomes on the same examples, in the same order.

    Right-or-wrong scores get Tango's score interval and the exact McNemar test, other scores
    Student's interval of the paired differences. `cost`, `latency`, `data` and `data_hash` are
    put into the record as they are. Examples of causal language models may belong to documents
    (`documents`, a number for each), over which the interval of the perplexity is then made.

    Raises:
        DataError: The outcomes are of different examples.
        ConfigError: `defect_class` or `costs` name what is no class; see `find_defects`.
    """
    if baseline.num_examples != pruned.num_examples or not np.array_equal(
        baseline.targets, pruned.targets
    ):
        raise DataError("the two networks were not measured on the same examples.")
    one, other = baseline.scores, pruned.scores
    binary = bool(np.isin(one, (0.0, 1.0)).all() and np.isin(other, (0.0, 1.0)).all())
    binary = binary and not len(baseline.counts)  # overlaps may all be 0 or 1 by chance
    lost, gained = one > other, one < other
    defects = find_defects(class_names, defect_class, costs)
    classes = _classes(baseline, pruned, class_names, confidence) if binary else ()
    has_classes = len(baseline.predictions) > 0
    agree = baseline.predictions == pruned.predictions if has_classes else ~(lost | gained)
    shift = float((pruned.confidence - baseline.confidence).mean()) if has_classes else None
    return Comparison(
        num_examples=len(one),
        confidence=confidence,
        score=drop(one, other, confidence, binary=binary),
        p_value=paired.mcnemar_exact(int(lost.sum()), int(gained.sum())) if binary else None,
        lost=int(lost.sum()),
        gained=int(gained.sum()),
        agreement=rate(int(agree.sum()), len(agree), confidence),
        confidence_shift=shift,
        nonfinite_baseline=float(1 - baseline.finite.mean()),
        nonfinite_pruned=float(1 - pruned.finite.mean()),
        classes=classes,
        defects=defect_risk(baseline, pruned, class_names, defects, confidence),
        error_cost=error_cost(
            baseline,
            pruned,
            class_names,
            costs,
            defects=defects,
            defect_share=defect_share,
            confidence=confidence,
        ),
        newly_wrong=_most(one - other),
        newly_right=_most(other - one),
        cost=cost,
        latency=latency,
        perplexity=perplexity_change(baseline, pruned, documents, confidence),
        auroc=auroc_change(baseline, pruned, class_names, defects, confidence),
        counts=counts_of(baseline, pruned, confidence),
        data=data,
        data_hash=data_hash,
    )


def _most(change: npt.NDArray[np.float64]) -> tuple[int, ...]:
    """Return the positions with a change above 0, the largest first."""
    order = np.argsort(-change, kind="stable")
    return tuple(order[change[order] > 0][:MAX_LISTED].tolist())


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
        rows.append(drop(one, other, confidence, binary=True))
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
    if len(outcomes.evidence):
        return None  # what is said of a part is not which defect it has
    predicted = outcomes.predictions == index
    return float((outcomes.targets[predicted] == index).mean()) if predicted.any() else None
