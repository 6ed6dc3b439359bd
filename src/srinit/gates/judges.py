"""One judge for every gate: what was measured, its unfavourable end, the limit, a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from srinit.comparison import (
    Comparison,
    CorruptionRobustness,
    DefectRisk,
    Difference,
    Rate,
    Unlabeled,
)
from srinit.comparison.defects import check_class
from srinit.comparison.worse import worse_classes
from srinit.errors import ConfigError
from srinit.evaluate.reading import MISSED
from srinit.gates.outlook import class_outlooks
from srinit.gates.records import Gate, GateResult, Limits

Judge = Callable[[Comparison, str, float], Gate]
ClassJudge = Callable[[Comparison, str, str, float], Gate]
SHIFT = "max_shift_drop"
WORSE = "max_worse_classes"


def check_gates(
    comparison: Comparison, limits: Limits, *, shift: CorruptionRobustness | None = None
) -> GateResult:
    """Return the judgement of every limit, in the order given.

    Losses are judged by the unfavourable end of their interval: a loss passes when the data
    show that it is within the limit (non-inferiority), not when they fail to show that it is
    beyond.

    Args:
        comparison: What was measured.
        limits: Name of a gate (see `JUDGES`) to its limit. Gates of `CLASS_JUDGES` also take one
            limit a class: `{"crack": 0.01}`.
        shift: What was measured on corrupted images, for `max_shift_drop`.

    Raises:
        ConfigError: Unknown gate or class, or a gate that needs what was not measured.
    """
    check_names(limits)
    gates: list[Gate] = []
    for name, limit in limits.items():
        if isinstance(limit, Mapping):
            judge = CLASS_JUDGES[name]
            gates += [judge(comparison, name, key, value) for key, value in limit.items()]
        elif name == SHIFT:
            gates.append(_shift(shift, name, limit))
        elif name == WORSE:
            gates += _worse(comparison, limits, limit)
        else:
            gates.append(JUDGES[name](comparison, name, limit))
    return GateResult(passed=all(gate.passed for gate in gates), gates=tuple(gates))


def check_unlabeled(found: Unlabeled, limits: Limits) -> GateResult:
    """Return the judgement of the limits that need no labels: `min_agreement`.

    Raises:
        ConfigError: A gate that needs labels.
    """
    check_names(limits)
    gates: list[Gate] = []
    for name, limit in limits.items():
        if name != "min_agreement" or isinstance(limit, Mapping):
            raise ConfigError(f"gate {name} needs labels, and these examples have none.")
        gates.append(_rate_at_least(name, found.agreement, limit))
    return GateResult(passed=all(gate.passed for gate in gates), gates=tuple(gates))


def check_names(limits: Limits) -> None:
    """Raise `ConfigError` for an unknown gate, or one that does not speak of classes."""
    known = (*JUDGES, SHIFT, WORSE)
    unknown = [name for name in limits if name not in known]
    if unknown:
        raise ConfigError(f"there is no gate {unknown[0]!r}; there are {', '.join(known)}.")
    for name, limit in limits.items():
        if isinstance(limit, Mapping) and name not in CLASS_JUDGES:
            raise ConfigError(f"gate {name} takes one number, not one a class.")


def _loss(name: str, what: str, difference: Difference, limit: float) -> Gate:
    passed = difference.num_examples > 0 and difference.high <= limit
    return Gate(
        name=name,
        limit=limit,
        measured=difference.value,
        bound=difference.high,
        passed=passed,
        sentence=(
            f"{what}: {_points(difference.value)}, at most {_points(difference.high)} by its "
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


def _worse(comparison: Comparison, limits: Limits, limit: float) -> list[Gate]:
    """Return the judgement of how many classes got significantly worse; none without classes.

    A class that has a limit of its own counts by that one.
    """
    own = limits.get("max_class_recall_drop")
    named = own if isinstance(own, Mapping) else {}
    rows = [row for row in comparison.classes if row.name not in named]
    if not rows:
        return []
    worse = [row for row in worse_classes(comparison) if row.name not in named]
    fewest = min(rows, key=lambda row: row.num_examples)
    seen = ", ".join(f"{row.name} by {_points(row.recall.value)}" for row in worse)
    risk = comparison.defects
    defects = () if risk is None else [row.name for row in risk.classes] or [risk.defect_class]
    (shown,) = class_outlooks(
        {fewest.name: fewest.num_examples},
        defects=[name for name in defects if name == fewest.name],
        confidence=comparison.confidence,
        few=math.inf,
        classes=len(comparison.classes),
    )
    return [
        Gate(
            name=WORSE,
            limit=limit,
            measured=float(len(worse)),
            bound=float(len(worse)),
            passed=len(worse) <= limit,
            sentence=(
                f"classes that got significantly worse: {len(worse)} of {len(rows)}"
                + (f" ({seen})" if seen else "")
                + f"; allowed {limit:g}; fewest examples: {shown.sentence}"
            ),
        )
    ]


def _recall_of(comparison: Comparison, name: str, key: str, limit: float) -> Gate:
    rows = {row.name: row for row in comparison.classes}
    check_class(key, rows, f"gate {name}")
    return _loss(f"{name}.{key}", f"loss of recall, class {key}", rows[key].recall, limit)


def _defects(comparison: Comparison, name: str) -> DefectRisk:
    if comparison.defects is None:
        raise ConfigError(
            f"gate {name} needs data.defect_class: the class, or classes, that mean defective."
        )
    return comparison.defects


def _missed(comparison: Comparison, name: str, limit: float) -> Gate:
    found = _defects(comparison, name).missed_increase
    return _loss(name, "rise of missed defects", found, limit)


def _missed_of(comparison: Comparison, name: str, key: str, limit: float) -> Gate:
    rows = {row.name: row for row in _defects(comparison, name).classes}
    check_class(key, rows, f"gate {name} (defect classes only)")
    what = f"rise of missed defects, class {key}"
    return _loss(f"{name}.{key}", what, rows[key].increase, limit)


def _objects(comparison: Comparison, name: str, limit: float) -> Gate:
    return _loss(name, "rise of missed objects", _count(comparison, name, MISSED), limit)


def _objects_of(comparison: Comparison, name: str, key: str, limit: float) -> Gate:
    found = _count(comparison, name, f"{MISSED}.{key}")
    return _loss(f"{name}.{key}", f"rise of missed objects, class {key}", found, limit)


def _count(comparison: Comparison, name: str, kind: str) -> Difference:
    found = {count.name: count.change for count in comparison.counts}
    if not found:
        raise ConfigError(f"gate {name} needs a task that looks for objects in images.")
    check_class(kind.removeprefix(f"{MISSED}."), [n.removeprefix(f"{MISSED}.") for n in found],
                f"gate {name}")  # fmt: skip
    return found[kind]


def _miss_rate(comparison: Comparison, name: str, limit: float) -> Gate:
    found = _defects(comparison, name).missed_pruned
    return Gate(
        name=name,
        limit=limit,
        measured=found.rate,
        bound=found.high,
        passed=found.total > 0 and found.high <= limit,
        sentence=(
            f"missed defects: {found.hits} of {found.total}, a rate of at most "
            f"{100 * found.high:.2f} % by its interval; allowed {100 * limit:.2f} %"
        ),
    )


def _rejected(comparison: Comparison, name: str, limit: float) -> Gate:
    found = _defects(comparison, name).rejected_increase
    return _loss(name, "rise of good parts rejected", found, limit)


def _cost(comparison: Comparison, name: str, limit: float) -> Gate:
    if comparison.error_cost is None:
        raise ConfigError(f"gate {name} needs data.costs: what errors cost.")
    found = comparison.error_cost.increase
    rise = "not measured" if found.value is None else f"{found.value:+.4g} a piece"
    return Gate(
        name=name,
        limit=limit,
        measured=found.value,
        bound=found.high,
        passed=found.value is not None and found.high <= limit,
        sentence=(
            f"rise of the cost of errors: {rise}, at most {found.high:+.4g} by its interval on "
            f"{found.num_examples} examples; allowed {limit:+.4g}"
        ),
    )


def _shift(shift: CorruptionRobustness | None, name: str, limit: float) -> Gate:
    worst = None if shift is None else shift.worst_bound
    if shift is None or worst is None:
        raise ConfigError(f"gate {name} needs shift.examples: nothing was measured under shift.")
    bound = worst.family.high
    return Gate(
        name=name,
        limit=limit,
        measured=worst.score.drop,
        bound=bound,
        passed=bound <= limit,
        sentence=(
            f"loss under shift, worst of {len(shift.points)} ({worst.corruption}, severity "
            f"{worst.severity}): {_points(worst.score.drop)}, at most {_points(bound)} by an "
            f"interval that holds for all of them, on {shift.num_examples} images; allowed "
            f"{_points(limit)}"
        ),
    )


def _agreement(comparison: Comparison, name: str, limit: float) -> Gate:
    return _rate_at_least(name, comparison.agreement, limit)


def _rate_at_least(name: str, found: Rate, limit: float) -> Gate:
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
    worst = max(comparison.latency, key=lambda pair: pair.ratio.high)
    return Gate(
        name=name,
        limit=limit,
        measured=worst.ratio.value,
        bound=worst.ratio.high,
        passed=worst.ratio.high <= limit,
        sentence=(
            f"latency, worst batch {worst.baseline.batch_size}: {worst.ratio.known:.3f} of the "
            f"baseline's, at most {worst.ratio.high:.3f}; allowed {limit:.3f}"
        ),
    )


def _perplexity(comparison: Comparison, name: str, limit: float) -> Gate:
    found = comparison.perplexity
    if found is None:
        raise ConfigError(
            f"gate {name} needs a causal language model: score: next_token_accuracy or "
            "next_token_probability."
        )
    return Gate(
        name=name,
        limit=limit,
        measured=found.ratio.value,
        bound=found.ratio.high,
        passed=found.ratio.high <= limit,
        sentence=(
            f"perplexity: {found.baseline:.3f} before, {found.pruned:.3f} after, "
            f"{found.ratio.known:.3f} of the baseline's, at most {found.ratio.high:.3f} by its "
            f"interval on {found.num_documents} documents; allowed {limit:.3f}"
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


JUDGES: dict[str, Judge] = {
    "max_drop": _max_drop,
    "max_class_recall_drop": _class_recall,
    "max_missed_defect_increase": _missed,
    "max_missed_object_increase": _objects,
    "max_missed_defect_rate": _miss_rate,
    "max_false_reject_increase": _rejected,
    "max_cost_increase": _cost,
    "min_agreement": _agreement,
    "max_latency_ratio": _latency,
    "max_perplexity_ratio": _perplexity,
    "max_params_ratio": _params,
}
CLASS_JUDGES: dict[str, ClassJudge] = {
    "max_class_recall_drop": _recall_of,
    "max_missed_defect_increase": _missed_of,
    "max_missed_object_increase": _objects_of,
}
