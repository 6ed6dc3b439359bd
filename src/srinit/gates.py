"""Judges a comparison by limits that were set before; measures nothing."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping

from srinit.comparison.records import Comparison, Difference
from srinit.errors import ConfigError
from srinit.records import record
from srinit.stats import paired

Limits = Mapping[str, float | Mapping[str, float]]


@record
class Gate:
    """One limit, and how the comparison stands to it."""

    name: str
    limit: float
    measured: float | None
    bound: float | None  # the end of the interval that is judged
    passed: bool
    sentence: str


@record
class GateResult:
    """All gates of a comparison; it passes when every one does."""

    passed: bool
    gates: tuple[Gate, ...]

    @property
    def failed(self) -> tuple[Gate, ...]:
        """The gates that say no."""
        return tuple(gate for gate in self.gates if not gate.passed)


def check_gates(comparison: Comparison, limits: Limits) -> GateResult:
    """Return the judgement of every limit, in the order given.

    Losses are judged by the unfavourable end of their interval: a loss passes when the data
    show that it is within the limit (non-inferiority), not when they fail to show that it is
    beyond.

    Args:
        comparison: What was measured.
        limits: Name of a gate (see `JUDGES`) to its limit. `max_class_recall_drop` also takes
            one limit a class: `{"crack": 0.01}`.

    Raises:
        ConfigError: Unknown gate or class, or a gate that needs what was not measured.
    """
    _check_names(limits)
    gates: list[Gate] = []
    for name, limit in limits.items():
        if isinstance(limit, Mapping):
            gates += [_one_class(comparison, name, key, value) for key, value in limit.items()]
        else:
            gates.append(JUDGES[name](comparison, name, limit))
    return GateResult(passed=all(gate.passed for gate in gates), gates=tuple(gates))


def check_feasible(
    limits: Limits,
    class_counts: Mapping[str, int],
    *,
    defect_class: str | None = None,
    confidence: float = 0.95,
) -> None:
    """Raise `ConfigError` when a gate cannot pass on test data of this size; all are named.

    A gate is judged by the end of an interval, so few examples can never show that a loss is
    small: the least number is that at which it passes if not one prediction changes. Ask before
    the work starts.

    Args:
        limits: As for `check_gates`.
        class_counts: Test examples of every class.
        defect_class: The class that means defective.
        confidence: Of the intervals, two-sided.

    Example:
        >>> check_feasible({"max_drop": 0.02}, {"good": 80, "defect": 20})
        Traceback (most recent call last):
        ...
        srinit.errors.ConfigError: gates.max_drop: 0.02 cannot pass on 100 examples: it needs ...
    """
    _check_names(limits)
    problems: list[str] = []
    for name, limit in limits.items():
        parts = limit if isinstance(limit, Mapping) else {"": limit}
        for key, value in parts.items():
            problems += _too_few(name, key, value, class_counts, defect_class, confidence)
    if problems:
        raise ConfigError("\n".join(problems))


def examples_needed(name: str, limit: float, confidence: float = 0.95) -> float:
    """Return the fewest examples on which a gate passes if no prediction changes.

    Infinite where no number is enough: a margin of 0, or an agreement of 1. Sources: Tango's
    upper end without discordant pairs is z^2 / (n + z^2); Clopper and Pearson's lower end of n
    in n is (alpha / 2)^(1/n). See `srinit.stats.paired`.

    Example:
        >>> examples_needed("max_drop", 0.02), examples_needed("min_agreement", 0.99)
        (189, 368)
    """
    if name not in (*LOSSES, "min_agreement"):
        return 0
    if name == "min_agreement":
        if limit <= 0:
            return 0
        if limit >= 1:
            return math.inf
        return math.ceil(math.log((1 - confidence) / 2) / math.log(limit))
    if limit <= 0:
        return math.inf
    z = paired.quantile(confidence)
    return math.ceil(z * z * (1 - limit) / limit)


def _too_few(
    name: str,
    key: str,
    limit: float,
    counts: Mapping[str, int],
    defect_class: str | None,
    confidence: float,
) -> list[str]:
    where = f"gates.{name}{'.' + key if key else ''}: {limit:g}"
    if key and key not in counts:
        return [f"{where} names no class of the data{_nearest(key, counts)}"]
    if name in ("max_missed_defect_increase", "max_false_reject_increase"):
        if defect_class is None or defect_class not in counts:
            return [f"{where} needs data.defect_class, one of {', '.join(counts)}"]
        defects = counts[defect_class]
        missed = name == "max_missed_defect_increase"
        groups = {"": defects if missed else sum(counts.values()) - defects}
        what = "defective examples" if missed else "good examples"
    elif name == "max_class_recall_drop":
        groups = {key: counts[key]} if key else dict(counts)
        what = "examples of class"
    else:
        groups, what = {"": sum(counts.values())}, "examples"
    needed = examples_needed(name, limit, confidence)
    group, found = min(groups.items(), key=lambda item: item[1], default=("", 0))
    if found >= needed:
        return []
    said = f"{what} {group}".strip()
    if math.isinf(needed):
        return [
            f"{where} cannot pass on any number of examples; allow at least a little "
            "(0.01, say; 0.99 for an agreement)"
        ]
    return [
        f"{where} cannot pass on {found} {said}: it needs {needed:.0f} even if no prediction "
        "changes; add test examples or widen the limit"
    ]


def _check_names(limits: Limits) -> None:
    unknown = [name for name in limits if name not in JUDGES]
    if unknown:
        raise ConfigError(f"there is no gate {unknown[0]!r}; there are {', '.join(JUDGES)}.")
    for name, limit in limits.items():
        if isinstance(limit, Mapping) and name != "max_class_recall_drop":
            raise ConfigError(f"gate {name} takes one number, not one a class.")


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)
    return f" (nearest: {close[0]!r})" if close else ""


def _one_class(comparison: Comparison, name: str, key: str, limit: float) -> Gate:
    rows = {row.name: row for row in comparison.classes}
    if key not in rows:
        raise ConfigError(f"gate {name} names no class {key!r}{_nearest(key, rows)}.")
    return _loss(f"{name}.{key}", f"loss of recall, class {key}", rows[key].recall, limit)


def _loss(name: str, what: str, difference: Difference, limit: float) -> Gate:
    passed = difference.num_examples > 0 and difference.high <= limit
    return Gate(
        name=name,
        limit=limit,
        measured=difference.drop,
        bound=difference.high,
        passed=passed,
        sentence=(
            f"{what}: {_points(difference.drop)}, at most {_points(difference.high)} by its "
            f"interval on {difference.num_examples} examples; allowed {_points(limit)}"
        ),
    )


def _points(fraction: float | None) -> str:
    return "not measured" if fraction is None else f"{100 * fraction:+.2f} points"


def _max_drop(comparison: Comparison, name: str, limit: float) -> Gate:
    return _loss(name, "loss of accuracy", comparison.score, limit)


def _class_recall(comparison: Comparison, name: str, limit: float) -> Gate:
    if not comparison.classes:
        raise ConfigError(f"gate {name} needs classes, and this task has none.")
    worst = max(comparison.classes, key=lambda row: row.recall.high)
    return _loss(name, f"loss of recall, worst class {worst.name}", worst.recall, limit)


def _missed(comparison: Comparison, name: str, limit: float) -> Gate:
    if comparison.defects is None:
        raise ConfigError(f"gate {name} needs data.defect_class: the class that means defective.")
    return _loss(name, "rise of missed defects", comparison.defects.missed_increase, limit)


def _rejected(comparison: Comparison, name: str, limit: float) -> Gate:
    if comparison.defects is None:
        raise ConfigError(f"gate {name} needs data.defect_class: the class that means defective.")
    return _loss(name, "rise of good parts rejected", comparison.defects.rejected_increase, limit)


def _agreement(comparison: Comparison, name: str, limit: float) -> Gate:
    found = comparison.agreement
    return Gate(
        name=name,
        limit=limit,
        measured=found.rate,
        bound=found.low,
        passed=found.low >= limit,
        sentence=(
            f"equal predictions: {found.hits} of {found.total}, at least "
            f"{100 * found.low:.2f} % by the interval; needed {100 * limit:.2f} %"
        ),
    )


def _latency(comparison: Comparison, name: str, limit: float) -> Gate:
    if not comparison.latency:
        raise ConfigError(f"gate {name} needs measured latency, and none was measured.")
    worst = max(comparison.latency, key=lambda pair: pair.ratio_high)
    return Gate(
        name=name,
        limit=limit,
        measured=worst.ratio,
        bound=worst.ratio_high,
        passed=worst.ratio_high <= limit,
        sentence=(
            f"latency, worst batch {worst.baseline.batch_size}: {worst.ratio:.3f} of the "
            f"baseline's, at most {worst.ratio_high:.3f}; allowed {limit:.3f}"
        ),
    )


def _params(comparison: Comparison, name: str, limit: float) -> Gate:
    if comparison.cost is None:
        raise ConfigError(f"gate {name} needs the size of both networks.")
    ratio = comparison.cost.params_pruned / comparison.cost.params_baseline
    return Gate(
        name=name,
        limit=limit,
        measured=ratio,
        bound=ratio,
        passed=ratio <= limit,
        sentence=f"parameters: {ratio:.3f} of the baseline's; allowed {limit:.3f}",
    )


JUDGES: dict[str, Callable[[Comparison, str, float], Gate]] = {
    "max_drop": _max_drop,
    "max_class_recall_drop": _class_recall,
    "max_missed_defect_increase": _missed,
    "max_false_reject_increase": _rejected,
    "min_agreement": _agreement,
    "max_latency_ratio": _latency,
    "max_params_ratio": _params,
}

LOSSES = (
    "max_drop",
    "max_class_recall_drop",
    "max_missed_defect_increase",
    "max_false_reject_increase",
)
