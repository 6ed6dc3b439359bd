"""Missed defects and good parts rejected: the two errors of an inspection line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from srinit.class_names import nearest
from srinit.comparison.differences import Bools, rate, rise
from srinit.comparison.records import ClassMisses, DefectRisk, Rate
from srinit.errors import ConfigError
from srinit.evaluate import Outcomes
from srinit.stats import paired

Costs = Mapping[str, Mapping[str, float]]
"""True class to predicted class to the cost of one such error; what is not named costs nothing."""


def find_defects(
    names: Sequence[str],
    defect_class: str | Sequence[str] | None = None,
    costs: Costs | None = None,
) -> tuple[str, ...]:
    """Return the classes that mean defective, in the order of `names`; empty if nothing says so.

    Where only costs are given, the good class is the one that it costs most to be wrong with: the
    largest sum of a column. All others are defects.

    Args:
        names: All classes.
        defect_class: One class, or several.
        costs: What errors cost.

    Raises:
        ConfigError: A name that is no class, no class left that is good, or costs that do not
            tell which class is the good one.

    Example:
        >>> find_defects(["ok", "dent"], costs={"ok": {"dent": 1}, "dent": {"ok": 90}})
        ('dent',)
    """
    named = [defect_class] if isinstance(defect_class, str) else list(defect_class or ())
    check_costs(names, costs or {})
    for name in named:
        check_class(name, names, "the defect class")
    if not named and costs:
        sums = {
            name: sum(row.get(name, 0.0) for key, row in costs.items() if key != name)
            for name in names
        }
        top = [name for name, total in sums.items() if total == max(sums.values())]
        if len(top) > 1:
            raise ConfigError(
                "the costs do not tell which class is the good one (it costs the same to be wrong "
                f"with {' and '.join(top)}); name the others in data.defect_class."
            )
        named = [name for name in names if name != top[0]]
    if named and not set(names) - set(named):
        raise ConfigError(f"every class is a defect class: {list(names)}; leave the good one out.")
    return tuple(name for name in names if name in named)


def check_class(name: str, names: Iterable[str], what: str) -> None:
    """Raise `ConfigError` where a name is no class; the nearest is named."""
    known = list(names)
    if name in known:
        return
    raise ConfigError(
        f"{what}: there is no class {name!r}; the classes are {known[:12]}{nearest(name, known)}"
    )


def check_costs(names: Sequence[str], costs: Costs) -> None:
    """Raise `ConfigError` where costs name what is no class, or price a right answer."""
    for actual, row in costs.items():
        check_class(actual, names, "costs")
        for predicted, value in row.items():
            check_class(predicted, names, f"costs of {actual}")
            if actual == predicted and value:
                raise ConfigError(f"costs: {actual} recognized as {actual} is no error.")


def defect_risk(
    baseline: Outcomes,
    pruned: Outcomes,
    names: Sequence[str],
    defects: Sequence[str],
    confidence: float,
) -> DefectRisk | None:
    """Return both kinds of error; a defect without an answer counts as missed."""
    if not defects:
        return None
    indices = [list(names).index(name) for name in defects]
    defective = np.isin(baseline.targets, indices)
    called = [np.isin(outcomes.predictions, indices) for outcomes in (baseline, pruned)]
    missed = [~each[defective] for each in called]
    rejected = [each[~defective] for each in called]
    return DefectRisk(
        defect_class=", ".join(defects),
        missed_baseline=_rate(missed[0], confidence),
        missed_pruned=_rate(missed[1], confidence),
        missed_increase=rise(missed[0], missed[1], confidence),
        rejected_baseline=_rate(rejected[0], confidence),
        rejected_pruned=_rate(rejected[1], confidence),
        rejected_increase=rise(rejected[0], rejected[1], confidence),
        note=_sample_note(missed[1], confidence),
        classes=tuple(
            _misses(name, baseline.targets == index, called, confidence)
            for name, index in zip(defects, indices, strict=True)
        ),
    )


def _misses(name: str, of_class: Bools, called: Sequence[Bools], confidence: float) -> ClassMisses:
    before, after = (~each[of_class] for each in called)
    return ClassMisses(
        name=name,
        baseline=_rate(before, confidence),
        pruned=_rate(after, confidence),
        increase=rise(before, after, confidence),
    )


def _rate(hits: Bools, confidence: float) -> Rate:
    return rate(int(hits.sum()), len(hits), confidence)


def _sample_note(missed: Bools, confidence: float) -> str:
    if len(missed) == 0:
        return "no defective example in the data: nothing is known about missed defects"
    high = paired.clopper_pearson(int(missed.sum()), len(missed), confidence)[1]
    return (
        f"{int(missed.sum())} misses in {len(missed)} defects show only that the miss rate is "
        f"below about {100 * high:.2g} %"
    )
