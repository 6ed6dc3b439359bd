"""Names, before the work starts, the gates that can never pass on data of a given size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from srinit.comparison.costs import class_weights, cost_matrix, unchanged_reach
from srinit.comparison.defects import Costs, check_class, find_defects
from srinit.errors import ConfigError
from srinit.gates.judges import SHIFT, check_names
from srinit.gates.records import Limits
from srinit.records import record
from srinit.stats import paired

LOSSES = (
    "max_drop",
    "max_class_recall_drop",
    "max_missed_defect_increase",
    "max_missed_object_increase",
    "max_false_reject_increase",
    SHIFT,
)
OF_DEFECTS = (
    "max_missed_defect_increase",
    "max_missed_object_increase",
    "max_missed_defect_rate",
    "max_false_reject_increase",
)
FACTORS = 60  # halvings of the search for the size of a sample


@record
class _Sample:
    """What is known of the data before the work."""

    counts: dict[str, int]
    defects: tuple[str, ...]
    costs: dict[str, dict[str, float]]
    defect_share: float | None
    confidence: float
    shift_examples: int
    shift_points: int


def check_feasible(
    limits: Limits,
    class_counts: Mapping[str, int],
    *,
    defect_class: str | Sequence[str] | None = None,
    costs: Costs | None = None,
    defect_share: float | None = None,
    confidence: float = 0.95,
    shift_examples: int = 0,
    shift_points: int = 0,
    where: str = "gates",
) -> None:
    """Raise `ConfigError` when a gate cannot pass on test data of this size; all are named.

    A gate is judged by the end of an interval, so few examples can never show that a loss is
    small: the least number is that at which it passes if not one prediction changes. Ask before
    the work starts.

    Args:
        limits: As for `check_gates`.
        class_counts: Test examples of every class.
        defect_class: The class, or classes, that mean defective.
        costs: What errors cost.
        defect_share: Share of all pieces that are defective; None: as in the data.
        confidence: Of the intervals, two-sided.
        shift_examples: Test images that are corrupted.
        shift_points: Combinations of corruption and severity.
        where: What the messages call the limits.

    Example:
        >>> check_feasible({"max_drop": 0.02}, {"good": 80, "defect": 20})
        Traceback (most recent call last):
        ...
        srinit.errors.ConfigError: gates.max_drop: 0.02 cannot pass on 100 examples: it needs ...
    """
    check_names(limits)
    sample = _Sample(
        counts=dict(class_counts),
        defects=find_defects(list(class_counts), defect_class, costs),
        costs={name: dict(row) for name, row in (costs or {}).items()},
        defect_share=defect_share,
        confidence=confidence,
        shift_examples=min(shift_examples, sum(class_counts.values())),
        shift_points=shift_points,
    )
    problems: list[str] = []
    for name, limit in limits.items():
        parts = limit if isinstance(limit, Mapping) else {"": limit}
        for key, value in parts.items():
            problems += _too_few(name, key, value, sample, f"{where}.{name}")
    if problems:
        raise ConfigError("\n".join(problems))


def check_class_names(
    limits: Limits,
    names: Sequence[str],
    *,
    defect_class: str | Sequence[str] | None = None,
    costs: Costs | None = None,
    where: str = "gates",
) -> None:
    """Raise `ConfigError` where a limit, a defect class or a cost names what is no class.

    Args:
        limits: As for `check_gates`.
        names: The classes.
        defect_class: The class, or classes, that mean defective.
        costs: What errors cost.
        where: What the messages call the limits.

    Example:
        >>> check_class_names({"max_class_recall_drop": {"scrach": 0.01}}, ["ok", "scratch"])
        Traceback (most recent call last):
        ...
        srinit.errors.ConfigError: gates.max_class_recall_drop.scrach: there is no class 'scrach'...
    """
    check_names(limits)
    defects = find_defects(names, defect_class, costs)
    for name, limit in limits.items():
        known = (defects or names) if name in OF_DEFECTS else names
        for key in limit if isinstance(limit, Mapping) else ():
            check_class(key, known, f"{where}.{name}.{key}")


def examples_needed(name: str, limit: float, confidence: float = 0.95) -> float:
    """Return the fewest examples on which a gate passes if no prediction changes.

    Infinite where no number is enough: a margin of 0, or an agreement of 1. Sources: Tango's
    upper end without discordant pairs is z^2 / (n + z^2); Clopper and Pearson's lower end of n
    in n is (alpha / 2)^(1/n). See `srinit.stats.paired`.

    Example:
        >>> examples_needed("max_drop", 0.02), examples_needed("min_agreement", 0.99)
        (189, 368)
    """
    if name in ("min_agreement", "max_missed_defect_rate"):
        needed = limit if name == "min_agreement" else 1 - limit
        if needed <= 0:
            return 0
        if needed >= 1:
            return math.inf
        return math.ceil(math.log((1 - confidence) / 2) / math.log(needed))
    if name not in LOSSES:
        return 0
    if limit <= 0:
        return math.inf
    z = paired.quantile(confidence)
    return math.ceil(z * z * (1 - limit) / limit)


def _too_few(name: str, key: str, limit: float, sample: _Sample, called: str) -> list[str]:
    where = f"{called}{'.' + key if key else ''}: {limit:g}"
    if name == "max_cost_increase":
        return _too_few_for_cost(where, limit, sample)
    if name == SHIFT and not sample.shift_examples:
        return [f"{where} needs shift.examples: test images to corrupt"]
    if name in OF_DEFECTS and not sample.defects:
        return [f"{where} needs data.defect_class, one or more of {', '.join(sample.counts)}"]
    if key:
        known = sample.defects if name in OF_DEFECTS else tuple(sample.counts)
        try:
            check_class(key, known, where)
        except ConfigError as error:
            return [str(error)]
    group, found, what = _smallest(name, key, sample)
    confidence = sample.confidence
    if name == SHIFT:
        confidence = 1 - (1 - confidence) / max(sample.shift_points, 1)
    needed = examples_needed(name, limit, confidence)
    if found >= needed:
        return []
    if math.isinf(needed):
        return [
            f"{where} cannot pass on any number of examples; allow at least a little "
            "(0.01, say; 0.99 for an agreement)"
        ]
    return [
        f"{where} cannot pass on {found} {what} {group}".rstrip()
        + f": it needs {needed:.0f} even if no prediction changes"
        + (" (and none is missed)" if name == "max_missed_defect_rate" else "")
        + f"; add {'shift.examples' if name == SHIFT else 'test examples'} or widen the limit"
    ]


def _smallest(name: str, key: str, sample: _Sample) -> tuple[str, int, str]:
    """Return the smallest group that a gate looks at: its class, its examples, what they are."""
    counts = sample.counts
    total, defects = sum(counts.values()), sum(counts[each] for each in sample.defects)
    if key:
        return key, counts[key], "examples of class"
    if name == SHIFT:
        return "", sample.shift_examples, "corrupted images"
    if name == "max_class_recall_drop":
        group, found = min(counts.items(), key=lambda item: item[1], default=("", 0))
        return group, found, "examples of class"
    if name in OF_DEFECTS:
        rejects = name == "max_false_reject_increase"
        return ("", total - defects, "good examples") if rejects else (
            "", defects, "defective examples",
        )  # fmt: skip
    return "", total, "examples"


def _too_few_for_cost(where: str, limit: float, sample: _Sample) -> list[str]:
    if not sample.costs:
        return [f"{where} needs data.costs: what errors cost"]
    names = list(sample.counts)
    counts = np.array(list(sample.counts.values()), dtype=np.int64)
    weights = class_weights(counts, np.isin(names, sample.defects), sample.defect_share)
    matrix = cost_matrix(names, sample.costs)
    lacking = [
        name
        for name, count, weight, row in zip(names, counts, weights, matrix, strict=True)
        if count == 0 and weight > 0 and row.max() > 0
    ]
    if lacking:
        return [f"{where} cannot pass: there is no test example of {', '.join(lacking)}"]
    if limit <= 0:
        return [f"{where} cannot pass on any number of examples; allow at least a little"]
    low, high = 1.0, 1.0
    while unchanged_reach(counts * high, weights, matrix, sample.confidence) > limit:
        low, high = high, 2 * high
    if high == 1.0:
        return []
    for _ in range(FACTORS):
        middle = (low + high) / 2
        beyond = unchanged_reach(counts * middle, weights, matrix, sample.confidence) > limit
        low, high = (middle, high) if beyond else (low, middle)
    reach = unchanged_reach(counts, weights, matrix, sample.confidence)
    return [
        f"{where} cannot pass on {counts.sum()} examples: it needs about "
        f"{math.ceil(counts.sum() * high)} with the same share of each class even if no "
        f"prediction changes (on so few it passes from {reach:.3g} on); add test examples or widen "
        "the limit"
    ]
