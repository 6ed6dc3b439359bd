"""What a report is made from: one frozen record, built from a run folder's files."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from srinit.alternatives import Alternatives
from srinit.comparison.field_data import FieldComparison
from srinit.comparison.precision import PrecisionChange
from srinit.comparison.records import Comparison
from srinit.comparison.robustness import CorruptionRobustness
from srinit.config import RoiInputs
from srinit.criteria.records import UnitScores
from srinit.custody.overrides import Override
from srinit.custody.readings import Readings
from srinit.evaluate.soundness import Suspicion
from srinit.export import Exported
from srinit.finetune.choice import RecipeChoice
from srinit.finetune.records import TuneLog
from srinit.gates import GateResult
from srinit.hugging_face import FolderFiles
from srinit.inference_cost import InferenceCost
from srinit.int8 import Int8
from srinit.latency import LatencyPair
from srinit.plan import PrunePlan
from srinit.records import record
from srinit.report.confusion_pairs import ConfusionPair
from srinit.report.text import OF_SCORES, OF_TEXT
from srinit.runs.pictures import Pictures
from srinit.runs.records import CutMetrics, RoundsOutcome
from srinit.sensitivity.records import Sensitivity


@record
class RoundInput:
    """One pruning round: what happened and how it was judged."""

    number: int  # from 1
    cut: CutMetrics | None = None
    tune: TuneLog | None = None
    training: RecipeChoice | None = None  # the recipes that were tried before it
    comparison: Comparison | None = None
    gates: GateResult | None = None
    precision: PrecisionChange | None = None  # of detectors
    shift: CorruptionRobustness | None = None
    site: FieldComparison | None = None  # the site's own data
    site_gates: GateResult | None = None
    ownership: InferenceCost | None = None  # what 1,000 answers cost
    confusion_pairs: tuple[ConfusionPair, ...] = ()  # kinds of error on test data
    removed: tuple[str, ...] = ()  # all that is gone after it, first to last
    validation: Comparison | None = None  # where it was pruned in rounds
    validation_gates: GateResult | None = None


@record
class DataFile:
    """A file behind the numbers, relative to the run folder."""

    path: str
    sha256: str
    size_bytes: int


@record
class ReportInput:
    """Everything a report is made from; names and labels in it are untrusted text."""

    name: str
    run: str  # the run folder as the user would type it
    sensitivity: Sensitivity
    plan: PrunePlan
    created: str = ""  # ISO 8601, when the run began
    rounds: tuple[RoundInput, ...] = ()
    exports: tuple[Exported, ...] = ()
    failed_exports: dict[str, str] = field(default_factory=dict)  # format to reason
    onnx_latency: tuple[LatencyPair, ...] = ()
    int8: Int8 | None = None  # the pruned network in int8, beside the others
    alternatives: Alternatives | None = None  # to pruning
    baseline_score: float | None = None  # validation data, a fraction
    baseline_examples: int = 0
    baseline_warnings: tuple[Suspicion, ...] = ()
    class_names: tuple[str, ...] = ()
    defect_class: str | None = None
    hugging_face: FolderFiles | None = None  # the folder for transformers, where one was tried
    seed: int | None = None
    device: str = ""
    model_source: str = ""
    data_sources: dict[str, str] | None = None
    roi: RoiInputs = RoiInputs()
    environment: dict[str, Any] | None = None
    config_text: str = ""
    on_production_device: bool = False  # as the config says
    rollback_drilled: bool = False  # the audit log holds a finished rollback drill
    rollback_drill_on: str = ""  # its date, or that of the way back itself
    rolled_back: bool = False  # the way back was really taken, not only rehearsed
    seal: str = ""  # root of the seal, where the run was sealed before this report
    files: tuple[DataFile, ...] = ()
    pictures: Pictures | None = None
    scores: UnitScores | None = None  # what ranks, where it is not the scan
    beside: tuple[UnitScores, ...] = ()  # other criteria, which do not rank
    rejected: tuple[RoundInput, ...] = ()  # rounds that failed
    outcome: RoundsOutcome | None = None  # where it was pruned in rounds
    overrides: tuple[Override, ...] = ()  # what later verbs changed of the config
    edit: Override | None = None  # of the plan by hand, which it follows
    readings: Readings | None = None  # who read the test data before
    files_at: str = "../"  # from the page to the run's files
    root: str = ""  # folder that paths of the config are relative to
    weights: str = ""  # the file of the unpruned network's weights, as the config names it
    inputs: dict[str, str] = field(default_factory=dict)  # input file to SHA-256

    @property
    def is_text(self) -> bool:
        """Whether the network reads texts, of which the page speaks otherwise than of images."""
        sources = (self.data_sources or {}).values()
        is_language = self.comparison is not None and self.comparison.perplexity is not None
        return is_language or any(source.startswith("text:") for source in sources)

    @property
    def wording(self) -> tuple[str, ...]:
        """Sections of texts that take the place of others on this page (`Translator`)."""
        found = self.comparison
        scores = self.is_text or (found is not None and found.p_value is None)
        return (*[OF_TEXT] * self.is_text, *[OF_SCORES] * scores)

    @property
    def last(self) -> RoundInput | None:
        """The round that the decision is about."""
        return self.rounds[-1] if self.rounds else None

    @property
    def comparison(self) -> Comparison | None:
        """The comparison of the last round."""
        return self.last.comparison if self.last else None

    @property
    def gates(self) -> GateResult | None:
        """The judgement of the last round."""
        return self.last.gates if self.last else None
