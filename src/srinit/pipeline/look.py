"""The stages that only look: baseline, inspect, scan."""

from __future__ import annotations

from dataclasses import replace

from srinit.config.stages import AUTO, COMPENSATED
from srinit.cost import count_cost
from srinit.criteria import Criterion, UnitScores, score_units, scores_of
from srinit.distributed import ProcessGroup
from srinit.errors import ConfigError, DataError
from srinit.evaluate import Outcomes, Suspicion, suspicions
from srinit.latency import Latency, measure_latency
from srinit.pipeline import distances, processes, shared
from srinit.pipeline.facts import data_facts
from srinit.pipeline.normalization import better_normalization
from srinit.pipeline.session import Session
from srinit.pipeline.sizes import SHALLOW, criterion_of, num_removed
from srinit.records import record
from srinit.sensitivity import Sensitivity, measure_sensitivity
from srinit.sources import load_function
from srinit.store import csv_text, write_npz
from srinit.units import UnitMap, find_units

WARNING = "WARNING:"
BASELINE_SCHEMA = "srinit.baseline/1"
UNITS_SCHEMA = "srinit.units/1"
SCORES_SCHEMA = "srinit.scores/1"
SENSITIVITY_SCHEMA = "srinit.sensitivity/1"


@record
class ClassScore:
    """How one class fares: recall and precision are fractions, None where undefined."""

    name: str
    num_examples: int
    recall: float | None
    precision: float | None


@record
class BaselineMetrics:
    """The unpruned network on validation data, and what it costs."""

    score: float
    num_examples: int
    nonfinite: float  # share of outputs with NaN or infinity, counted as wrong
    classes: tuple[ClassScore, ...]
    params: int
    flops: int  # per example; one multiply-add counts 2
    size_bytes: int
    latency: tuple[Latency, ...]
    device: str
    not_counted: tuple[str, ...] = ()  # operations whose arithmetic `flops` leaves out
    warnings: tuple[Suspicion, ...] = ()  # signs that the network was put together wrongly


def baseline(session: Session) -> BaselineMetrics:
    """Return the unpruned network's metrics on validation data; written to `baseline/`.

    All processes of a run must call it; they share the examples.

    Raises:
        DataError: The score is further from `baseline.expected_top1` than the tolerance.
    """
    path = session.path / "baseline" / "metrics.json"
    if path.is_file():
        return session.folder.read_record(BaselineMetrics, path, schema=BASELINE_SCHEMA)
    data_facts(session)
    session.check_fit()
    outcomes = shared.outcomes(
        session,
        session.model,
        session.split("validation"),
        on_progress=session.observer.progress,
    )
    return processes.on_rank_zero(session, lambda s: _measured(s, outcomes))


def _measured(session: Session, outcomes: Outcomes) -> BaselineMetrics:
    """Return the metrics from what the network answered; rank 0 times it alone."""
    path = session.path / "baseline" / "metrics.json"
    if path.is_file():
        return session.folder.read_record(BaselineMetrics, path, schema=BASELINE_SCHEMA)
    warnings = _suspicions(session, outcomes)
    _check_expected(session, outcomes)
    cost = count_cost(session.model, session.example_inputs)
    metrics = BaselineMetrics(
        score=outcomes.score,
        num_examples=outcomes.num_examples,
        nonfinite=float(1 - outcomes.finite.mean()),
        classes=class_scores(outcomes, session.class_names),
        params=cost.params,
        flops=cost.flops,
        size_bytes=cost.size_bytes,
        latency=tuple(
            measure_latency(session.model, session.example_inputs, batch_size=size)
            for size in session.config.compare.latency_batches
        ),
        device=str(session.device),
        not_counted=cost.not_counted,
        warnings=warnings,
    )
    write_npz(path.with_name("predictions.npz"), vars(outcomes))
    session.folder.audit(
        "baseline",
        f"score {metrics.score}",
        reason="; ".join(f"{WARNING} {each.text}" for each in warnings),
    )
    session.folder.write_record(path, metrics, schema=BASELINE_SCHEMA)
    return metrics


def _suspicions(session: Session, outcomes: Outcomes) -> tuple[Suspicion, ...]:
    """Return the signs that the network was put together wrongly, and say them."""
    if session.config.score != "top1" or not len(outcomes.targets):
        return ()
    found = suspicions(outcomes.targets, outcomes.predictions, session.class_names)
    exchanged = [each.values for each in found if each.kind == "exchanged"]
    explained = sum(int(each["would"]) - int(each["now"]) for each in exchanged)
    found += better_normalization(session, above=outcomes.score + explained / len(outcomes.targets))
    for each in found:
        session.observer.say(f"{WARNING} the unpruned network: {each.text}.")
    return found


def _check_expected(session: Session, outcomes: Outcomes) -> None:
    settings = session.config.baseline
    if not outcomes.finite.all():
        session.observer.say(
            f"{int((~outcomes.finite).sum())} outputs hold NaN or infinity; they count as wrong."
        )
    if settings.expected_top1 is None:
        return
    gap = abs(outcomes.score - settings.expected_top1)
    if gap > settings.tolerance:
        raise DataError(
            f"the unpruned network scores {outcomes.score:.4f} on {outcomes.num_examples} "
            f"validation examples, expected {settings.expected_top1:.4f} "
            f"(baseline.expected_top1, tolerance {settings.tolerance:.4f}). Commonest causes: a "
            "wrong resize or normalization (data.preprocess), another class order, other weights."
        )


def class_scores(outcomes: Outcomes, names: tuple[str, ...]) -> tuple[ClassScore, ...]:
    """Return recall and precision of every class; empty for tasks without classes."""
    found: list[ClassScore] = []
    for index, name in enumerate(names if len(outcomes.targets) else ()):
        is_class = outcomes.targets == index
        predicted = outcomes.predictions == index
        hits = float((is_class & predicted).sum())
        found.append(
            ClassScore(
                name=name,
                num_examples=int(is_class.sum()),
                recall=hits / is_class.sum() if is_class.any() else None,
                precision=hits / predicted.sum() if predicted.any() else None,
            )
        )
    return tuple(found)


def inspect(session: Session) -> UnitMap:
    """Return the units of the network; written to `units.json`."""
    path = session.path / "units.json"
    if path.is_file():
        return session.folder.read_record(UnitMap, path, schema=UNITS_SCHEMA)
    data_facts(session)
    session.check_fit()
    units = found_units(session)
    session.folder.write_record(path, units, schema=UNITS_SCHEMA)
    return units


def found_units(session: Session) -> UnitMap:
    """Return the units of the network as `units` of the config asks for them."""
    settings = session.config.units
    return find_units(
        session.model,
        session.example_inputs,
        keep=settings.keep,
        level=settings.level,
        include_plain=settings.include_plain,
        select=settings.select,
    )


def scan(session: Session) -> Sensitivity:
    """Return the sensitivity of every unit; the journal under `scan/` makes it resumable."""
    path = session.path / "scan" / "sensitivity.json"
    if path.is_file():
        return session.folder.read_record(Sensitivity, path, schema=SENSITIVITY_SCHEMA)
    settings = session.config.scan
    sensitivity = measure_sensitivity(
        session.model,
        inspect(session),
        session.batches("calibration"),
        scheme=settings.scheme,
        scale=settings.scale,
        draws=settings.draws,
        half_width=settings.half_width,
        confidence=settings.confidence,
        max_drop=session.config.plan.max_drop,
        precision=settings.precision,
        num_remove=_num_remove(session),
        seed=session.config.seed,
        scorer=session.scorer,
        device=session.device,
        journal=path.with_name("observations.jsonl"),
        on_progress=session.observer.progress,
    )
    sensitivity = replace(sensitivity, seconds=None)  # equal scans leave equal files
    session.folder.write_text(path.with_suffix(".csv"), sensitivity_csv(sensitivity))
    session.folder.audit("scan", f"measured {len(sensitivity.units)} units")
    session.folder.write_record(path, sensitivity, schema=SENSITIVITY_SCHEMA)
    return sensitivity


def _num_remove(session: Session) -> int | None:
    """Return how many units go, where the scan's precision follows that.

    Raises:
        ConfigError: There is nothing to decide.
    """
    settings, plan = session.config.scan, session.config.plan
    if settings.precision == "equal" or settings.num_remove is not None:
        return settings.num_remove
    if not (plan.flops or plan.params or plan.latency or plan.remove):
        if plan.max_drop is None:
            raise ConfigError(
                "scan.precision: decide has nothing to decide: name a target (plan.flops, "
                "plan.params, plan.latency, plan.max_drop), or scan.num_remove."
            )
        return None
    return max(num_removed(session.config, len(inspect(session))), 1)


def scores(session: Session) -> UnitScores:
    """Return the scores that rank: the scan's, or those of `plan.criterion`, kept in `scan/`.

    All processes of a run must call it; so must they `beside`.
    """
    settings = session.config.plan
    name = criterion_of(session.config, len(inspect(session)))
    if name == "reinit_drop":
        return scores_of(scan(session))
    path = session.path / "scan" / "criterion.json"
    if path.is_file():
        return session.folder.read_record(UnitScores, path, schema=SCORES_SCHEMA)
    criterion: str | Criterion = name
    if name.startswith("py:"):
        criterion = load_function(name, session.config.root)
    if criterion == COMPENSATED:
        found = distances.scored(session, inspect(session))
    else:
        found = _scored(session, criterion, settings.criterion_examples)
    is_blind = settings.criterion == AUTO and name == SHALLOW and found.units and not found.order
    if is_blind and settings.trial_examples > 0:  # the network's own forward adds its branches
        found = distances.scored(session, inspect(session))
    targets = session.config.plan.targets()
    if found.units and not found.order and targets.keys() != {"remove"}:
        raise DataError(
            f"plan.criterion {found.criterion} scored no unit ({found.units[0].reason}); choose "
            "another one, such as removal_drop or reinit_drop, or give it more examples "
            "(plan.criterion_examples)."
        )
    session.folder.write_record(path, found, schema=SCORES_SCHEMA)
    return found


def beside(session: Session) -> tuple[UnitScores, ...]:
    """Return the scores of `plan.beside`, which the report shows; kept in `scan/beside/`."""
    settings = session.config.plan
    ranks = criterion_of(session.config, len(inspect(session)))
    found = []
    for name in settings.beside:
        if name in ("reinit_drop", ranks):
            continue
        path = session.path / "scan" / "beside" / f"{name}.json"
        if path.is_file():
            found.append(session.folder.read_record(UnitScores, path, schema=SCORES_SCHEMA))
            continue
        found.append(_scored(session, name, settings.beside_examples))
        session.folder.write_record(path, found[-1], schema=SCORES_SCHEMA)
    return tuple(found)


def _scored(session: Session, criterion: str | Criterion, examples: int | None) -> UnitScores:
    return score_units(
        session.model,
        inspect(session),
        session.batches("calibration"),
        criterion=criterion,
        confidence=session.config.scan.confidence,
        seed=session.config.seed,
        scorer=session.scorer,
        loss=session.loss,
        device=session.device,
        max_examples=examples,
        ranks=ProcessGroup(),
        on_progress=session.observer.progress,
    )


def sensitivity_csv(sensitivity: Sensitivity) -> str:
    """Return the scan as a table, one unit a row."""
    names = (
        "unit", "removable", "reinit_drop", "low", "high", "decision", "num_draws",
        "num_examples", "draw_spread", "balanced_drop", "top_share", "nonfinite", "reason",
    )  # fmt: skip
    return csv_text(names, ([getattr(unit, name) for name in names] for unit in sensitivity.units))
