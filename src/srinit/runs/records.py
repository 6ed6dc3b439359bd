"""What only a run knows: what each of its steps measured and decided, as it is kept."""

from __future__ import annotations

from srinit.compensation import Choice
from srinit.cost import Cost
from srinit.criteria import UnitScores
from srinit.evaluate import Outcomes, Suspicion
from srinit.export import Exported
from srinit.latency import Latency, LatencyPair
from srinit.records import record
from srinit.sensitivity import Sensitivity
from srinit.store import csv_text


@record
class SetFacts:
    """One data set."""

    num_examples: int
    classes: dict[str, int]  # examples of every class; empty without classes
    data_hash: str


@record
class DataFacts:
    """All data sets, and everything that a reader should know about them, in sentences."""

    sets: dict[str, SetFacts]
    notes: tuple[str, ...]


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


@record
class ReferenceScores:
    """Criteria that are measured beside the one that ranks."""

    criteria: tuple[UnitScores, ...]


@record
class ComputedPlan:
    """The units that a plan was computed to remove; what an edit of plan.json is held against."""

    remove: tuple[str, ...]  # first to last


@record
class Compensated:
    """What a run did after the cut; the record of the choice, or why there was none."""

    choice: Choice | None = None
    reason: str = ""  # why nothing could be tried


@record
class CutMetrics:
    """What the cut of one round did, on validation data; scores are fractions."""

    removed: tuple[str, ...]
    num_examples: int
    score_before: float  # the unpruned network
    score_cut: float  # right after the cut
    score_compensated: float | None  # after what was done without training
    cost_before: Cost
    cost_after: Cost
    compensation: Compensated | None = None  # what was done without training, among what


@record
class RoundsOutcome:
    """How pruning in rounds ended."""

    delivered: int  # number of the round
    accepted: bool  # its gates passed on validation data
    reason: str  # why it went no further; empty: the target is reached
    tried: int | None = None  # the round that failed


@record
class Exports:
    """The exported files, and the formats that could not be written, with the reason."""

    files: tuple[Exported, ...]
    failed: dict[str, str]
    onnx_latency: tuple[LatencyPair, ...] = ()


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


def sensitivity_csv(sensitivity: Sensitivity) -> str:
    """Return the scan as a table, one unit a row."""
    names = (
        "unit", "removable", "reinit_drop", "low", "high", "decision", "num_draws",
        "num_examples", "draw_spread", "balanced_drop", "top_share", "nonfinite", "reason",
    )  # fmt: skip
    return csv_text(names, ([getattr(unit, name) for name in names] for unit in sensitivity.units))
