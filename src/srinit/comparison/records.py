"""What a comparison hands on: paired differences with intervals, counts, and nothing judged."""

from __future__ import annotations

from srinit.latency import LatencyPair
from srinit.records import Interval, record
from srinit.tables import Shown, Table, percent, points


@record
class Rate(Interval):
    """A share of examples, with its exact interval."""

    hits: int
    total: int

    @property
    def rate(self) -> float | None:
        """The share; None: no examples."""
        return self.value


@record
class Difference(Interval):
    """Both networks on the same examples, paired: a `Drop` or a `Rise`; positive is worse."""

    baseline: float | None
    pruned: float | None
    num_examples: int


@record
class Drop(Difference):
    """What is lost of a score, where more is better: baseline - pruned."""

    @property
    def drop(self) -> float | None:
        """Baseline - pruned; None: no examples."""
        return self.value


@record
class Rise(Difference):
    """What is added to a cost or an error, where less is better: pruned - baseline."""

    @property
    def rise(self) -> float | None:
        """Pruned - baseline; None: no examples."""
        return self.value


@record
class PerplexityChange:
    """Perplexity of both networks on the same tokens: exp of the mean loss of a token."""

    baseline: float
    pruned: float
    ratio: Interval  # pruned / baseline; above 1 is worse
    num_documents: int  # that the interval is over; they are taken to be independent
    num_tokens: int
    method: str  # how the interval was made, in words

    def words(self) -> str:
        """Return what it comes to, a sentence."""
        return (
            f"Perplexity: {self.baseline:.4g} before, {self.pruned:.4g} after, "
            f"{self.ratio.known:.3f}x ({100 * self.ratio.confidence:.0f} % interval "
            f"{self.ratio.low:.3f} to {self.ratio.high:.4g}) on {self.num_tokens:,} tokens; "
            f"{self.method}."
        )


@record
class ClassChange:
    """One class in both networks."""

    name: str
    num_examples: int
    recall: Drop
    precision_baseline: float | None
    precision_pruned: float | None
    p_value: float  # exact McNemar on this class
    p_adjusted: float  # Holm over all classes


@record
class ClassMisses:
    """Missed defects of one defect class."""

    name: str
    baseline: Rate
    pruned: Rate
    increase: Rise


@record
class DefectRisk:
    """The two errors of an inspection line."""

    defect_class: str  # all of them, separated by commas
    missed_baseline: Rate  # defective parts called good; one defect for another is no miss
    missed_pruned: Rate
    missed_increase: Rise  # of the miss rate
    rejected_baseline: Rate  # good parts called defective
    rejected_pruned: Rate
    rejected_increase: Rise
    note: str = ""  # what a sample of this size can and cannot show
    classes: tuple[ClassMisses, ...] = ()  # one for each defect class


@record
class ErrorCost:
    """What errors cost per piece, in the unit of `costs`."""

    costs: dict[str, dict[str, float]]  # true class, predicted class, cost of one
    defect_share: float | None  # of the pieces, that the classes are weighted to
    share_given: bool  # False: it is the share in the data
    increase: Rise  # of the expected cost of a piece
    missed: float  # part of the increase that comes from defects called good
    rejected: float  # from good parts called defective
    mixed: float  # from the other errors: one defect for another
    cost_of_miss: float | None  # of one, the mean over defects
    cost_of_reject: float | None
    break_even_miss_rate: float | None  # of the pruned network; above it, its errors cost more
    break_even_ratio: float | None  # cost of a miss / of a reject: both cost the same


@record
class Share(Interval):
    """How much of what lies in the examples: objects, pixels; they need not be whole numbers."""

    part: float
    whole: float
    num_examples: int  # that hold any


@record
class Count:
    """One kind of what is counted within examples, in both networks."""

    name: str  # "missed_objects", "missed_objects.CLASS", "false_alarms", "dice", ...
    baseline: Share
    pruned: Share
    change: Rise  # pruned - baseline; of "dice" and the like more is better


@record
class AurocChange:
    """Areas under the ROC curves of both networks: chance that a defect stands out from a part."""

    baseline: Interval
    pruned: Interval
    loss: Drop
    missed: Rise  # of defects, where each network rejects `false_rejects` of these good parts
    false_rejects: float
    num_good: int
    num_defective: int


@record
class CostSide:
    """Size and compute of both networks."""

    params_baseline: int
    params_pruned: int
    flops_baseline: int  # per example; one multiply-add counts 2
    flops_pruned: int
    size_bytes_baseline: int
    size_bytes_pruned: int
    not_counted: tuple[str, ...] = ()  # operations whose arithmetic the FLOPs leave out


@record
class Comparison(Shown):
    """Baseline against pruned network on the same examples; fractions."""

    num_examples: int
    confidence: float
    score: Drop  # accuracy, or the mean score of another task
    p_value: float | None  # exact McNemar; None where scores are not right or wrong
    lost: int  # examples only the baseline has right
    gained: int  # examples only the pruned network has right
    agreement: Rate  # share of equal predictions
    confidence_shift: float | None  # mean change of the top probability, pruned - baseline
    nonfinite_baseline: float
    nonfinite_pruned: float
    classes: tuple[ClassChange, ...] = ()
    defects: DefectRisk | None = None
    error_cost: ErrorCost | None = None
    newly_wrong: tuple[int, ...] = ()  # positions in the data, most changed first; at most 200
    newly_right: tuple[int, ...] = ()
    cost: CostSide | None = None
    latency: tuple[LatencyPair, ...] = ()
    perplexity: PerplexityChange | None = None  # of language models
    auroc: AurocChange | None = None  # of tasks that say how much speaks for a defect
    counts: tuple[Count, ...] = ()  # of tasks that look for objects or pixels
    data: str = ""  # which data
    data_hash: str = ""

    def _table(self) -> Table:
        """Return the comparison as `print` and a notebook show it."""
        named: list[tuple[str, Difference]] = [("accuracy", self.score)]
        if self.p_value is None:
            named = [("mean score", self.score)]
        if self.defects is not None:
            named.append(("missed defects", self.defects.missed_increase))
            named.append(("good parts rejected", self.defects.rejected_increase))
        named += [(count.name.replace("_", " "), count.change) for count in self.counts]
        named += [("AUROC", self.auroc.loss)] if self.auroc is not None else []
        worst = sorted(self.classes, key=lambda row: -row.recall.high)
        named += [(f"recall {row.name}", row.recall) for row in worst]
        rows = [
            (
                name,
                percent(found.baseline, 2),
                percent(found.pruned, 2),
                points(found.value),
                f"{points(found.low)} to {points(found.high)}",
            )
            for name, found in named
        ]
        if self.cost is not None:
            cost = self.cost
            rows += [
                (name, f"{before:,}", f"{after:,}", "", "")
                for name, before, after in (
                    ("parameters", cost.params_baseline, cost.params_pruned),
                    ("FLOPs", cost.flops_baseline, cost.flops_pruned),
                )
            ]
        for pair in self.latency:
            before, after = (f"{t.median_ms:.3g} ms" for t in (pair.baseline, pair.pruned))
            change = f"x{pair.ratio.known:.3f}"
            ends = f"{pair.ratio.low:.3f} to {pair.ratio.high:.3f}"
            rows.append((f"latency, batch {pair.baseline.batch_size}", before, after, change, ends))
        return Table(
            title=f"{self.num_examples} examples, {percent(self.confidence, 0)} intervals; losses "
            "in points, positive is worse",
            head=("", "before", "after", "loss", "interval"),
            rows=tuple(rows),
        )
