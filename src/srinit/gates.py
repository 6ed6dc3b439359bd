"""Judges a comparison by limits that were set before; measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from srinit.comparison.records import Comparison, Difference
from srinit.errors import ConfigError
from srinit.records import record


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


def check_gates(comparison: Comparison, limits: Mapping[str, float]) -> GateResult:
    """Return the judgement of every limit, in the order given.

    Losses are judged by the unfavourable end of their interval: a loss passes when the data
    show that it is within the limit (non-inferiority), not when they fail to show that it is
    beyond.

    Args:
        comparison: What was measured.
        limits: Name of a gate (see `JUDGES`) to its limit.

    Raises:
        ConfigError: Unknown gate, or one that needs what was not measured.
    """
    unknown = [name for name in limits if name not in JUDGES]
    if unknown:
        raise ConfigError(f"there is no gate {unknown[0]!r}; there are {', '.join(JUDGES)}.")
    gates = tuple(JUDGES[name](comparison, name, limit) for name, limit in limits.items())
    return GateResult(passed=all(gate.passed for gate in gates), gates=gates)


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
