"""The table of a run: every file of its folder, what it holds, and what people call it."""

from __future__ import annotations

from srinit.alternatives import SCHEMA as ALTERNATIVES_SCHEMA
from srinit.alternatives import Alternatives
from srinit.comparison import (
    Comparison,
    CorruptionRobustness,
    FieldComparison,
    PrecisionChange,
    field_csv,
    robustness_csv,
)
from srinit.criteria import UnitScores
from srinit.custody import overrides as changes
from srinit.custody.overrides import Overrides
from srinit.custody.readings import FILE as READINGS_FILE
from srinit.custody.readings import SCHEMA as READINGS_SCHEMA
from srinit.custody.readings import Readings
from srinit.edge.records import Package
from srinit.finetune import TuneLog
from srinit.finetune.choice import RecipeChoice
from srinit.gates import GateResult
from srinit.hugging_face import FolderFiles, FolderOutlook
from srinit.inference_cost import InferenceCost
from srinit.int8 import SCHEMA as INT8_SCHEMA
from srinit.int8 import Int8
from srinit.runs.kinds import (
    TIMES,
    Arrays,
    Artifact,
    Network,
    Page,
    PairedArrays,
    Plan,
    Record,
    Times,
)
from srinit.runs.pictures import PICTURES_SCHEMA, Pictures
from srinit.runs.records import (
    BaselineMetrics,
    ComputedPlan,
    CutMetrics,
    DataFacts,
    Exports,
    ReferenceScores,
    RoundsOutcome,
    sensitivity_csv,
)
from srinit.runs.result import RunResult
from srinit.sensitivity import Sensitivity
from srinit.units import UnitMap

# What a run begins with; `runs.inputs` reads and writes it.
HEADS = ("run.json", "config.yaml", "env.json", "inputs.lock.json")

OVERRIDES = Artifact(
    "overrides", changes.FILE, "changes of the config", Record(Overrides, changes.SCHEMA)
)
DATA_FACTS = Artifact("data_facts", "data.json", "the data", Record(DataFacts, "srinit.data/1"))
BASELINE_OUTCOMES = Artifact(
    "baseline_outcomes", "baseline/predictions.npz", "answers of the unpruned network", Arrays()
)
BASELINE = Artifact(
    "baseline", "baseline/metrics.json", "the unpruned network",
    Record(BaselineMetrics, "srinit.baseline/1"),
)  # fmt: skip
UNITS = Artifact("units", "units.json", "the units", Record(UnitMap, "srinit.units/1"))
SENSITIVITY = Artifact(
    "sensitivity", "scan/sensitivity.json", "the scan",
    Record(Sensitivity, "srinit.sensitivity/2", sensitivity_csv),
    beside=("scan/sensitivity.csv", "scan/observations.jsonl"),
)  # fmt: skip
SCORES = Artifact(
    "scores", "scan/criterion.json", "the criterion that ranks",
    Record(UnitScores, "srinit.scores/2"),
)  # fmt: skip
REFERENCE_SCORES = Artifact(
    "reference_scores", "scan/beside.json", "criteria beside it",
    Record(ReferenceScores, "srinit.reference_scores/1"),
)  # fmt: skip
PLAN = Artifact("plan", "plan.json", "the plan", Plan())
COMPUTED = Artifact(
    "computed_plan", "plan_computed.json", "the units that the plan was computed to remove",
    Record(ComputedPlan, "srinit.computed_plan/1"),
)  # fmt: skip
PLAN_TIMES = Artifact("plan_times", TIMES, "what a clock said about the plan", Times())
OUTCOME = Artifact(
    "outcome", "rounds/outcome.json", "how the rounds ended",
    Record(RoundsOutcome, "srinit.outcome/1"),
)  # fmt: skip

ROUND_PLAN = Artifact(
    "own_plan", "plan.json", "the plan of the round", Plan(), in_round=True, beside=(TIMES,)
)
PRUNED = Artifact(
    "pruned", "cut/recipe.json", "the cut network", Network(), in_round=True,
    beside=("cut/model.safetensors",), logged=False,
)  # fmt: skip
CUT = Artifact("cut", "metrics.json", "the cut", Record(CutMetrics, "srinit.cut/1"), in_round=True)
TRAINING_SCHEMA = "srinit.training/1"
TRAINING = Artifact(
    "training", "training.json", "how it is trained", Record(RecipeChoice, TRAINING_SCHEMA),
    in_round=True,
)  # fmt: skip
TUNED = Artifact(
    "tuned", "recipe.json", "the pruned network", Network(), in_round=True,
    beside=("model.safetensors", "t*.safetensors"), logged=False,
)  # fmt: skip
TUNE_LOG = Artifact(
    "tune_log", "tune.json", "the recovery", Record(TuneLog, "srinit.tune/1"), in_round=True
)
VALIDATION = Artifact(
    "validation_comparison", "validation.json", "the round on validation data",
    Record(Comparison, "srinit.comparison/2"), in_round=True,
)  # fmt: skip
VALIDATION_GATES = Artifact(
    "validation_gates", "validation_gate.json", "the gates on validation data",
    Record(GateResult, "srinit.gate/1"), in_round=True,
)  # fmt: skip
READINGS = Artifact(
    "readings", READINGS_FILE, "who read the test data before",
    Record(Readings, READINGS_SCHEMA), in_round=True,
)  # fmt: skip
PREDICTIONS = Artifact(
    "predictions", "predictions.npz", "answers of both networks", PairedArrays(), in_round=True
)
COMPARISON = Artifact(
    "comparison", "comparison.json", "the comparison",
    Record(Comparison, "srinit.comparison/2"), in_round=True,
)  # fmt: skip
PRECISION = Artifact(
    "precision", "precision.json", "mean average precision",
    Record(PrecisionChange, "srinit.precision/1"), in_round=True,
)  # fmt: skip
SHIFT = Artifact(
    "shift", "shift.json", "corrupted images",
    Record(CorruptionRobustness, "srinit.shift/2", robustness_csv), in_round=True,
    beside=("shift.csv",),
)  # fmt: skip
SITE = Artifact(
    "site_comparison", "site.json", "the site's own data",
    Record(FieldComparison, "srinit.site/2", field_csv), in_round=True, beside=("site.csv",),
)  # fmt: skip
SITE_GATES = Artifact(
    "site_gates", "site_gate.json", "the gates on the site's data",
    Record(GateResult, "srinit.gate/1"), in_round=True,
)  # fmt: skip
GATES = Artifact(
    "gates", "gate.json", "the judgement", Record(GateResult, "srinit.gate/1"), in_round=True
)
OWNERSHIP = Artifact(
    "ownership", "ownership.json", "inference cost",
    Record(InferenceCost, "srinit.ownership/1"), in_round=True,
)  # fmt: skip

EXPORTS = Artifact(
    "exports", "export/export.json", "exported files", Record(Exports, "srinit.export/2"),
    beside=("export/pruned.*",),
)  # fmt: skip
INT8 = Artifact(
    "int8", "export/int8.json", "int8 after pruning", Record(Int8, INT8_SCHEMA),
    beside=("export/pruned-int8.*",),
)  # fmt: skip
ALTERNATIVES = Artifact(
    "alternatives", "export/alternatives.json", "alternatives to pruning",
    Record(Alternatives, ALTERNATIVES_SCHEMA),
)  # fmt: skip
PACKAGE = Artifact(
    "package", "export/package.json", "the edge package", Record(Package, "srinit.package/1"),
    beside=("export/package/*", "export/package.zip"),
)  # fmt: skip
FOLDER_OUTLOOK = Artifact(
    "folder_outlook", "outlook.json", "whether a Hugging Face folder can be written",
    Record(FolderOutlook, "srinit.folder_outlook/1"),
)  # fmt: skip
PLANNED_FOLDER = Artifact(
    "planned_folder", "plan_outlook.json", "whether the plan leaves a Hugging Face folder",
    Record(FolderOutlook, "srinit.folder_outlook/1"),
)  # fmt: skip
FOLDER = Artifact(
    "hugging_face", "export/huggingface.json", "the Hugging Face folder",
    Record(FolderFiles, "srinit.folder/1"), beside=("export/huggingface/*",),
)  # fmt: skip
PICTURES = Artifact(
    "pictures", "report/pictures.json", "pictures", Record(Pictures, PICTURES_SCHEMA), logged=False
)
REPORT = Artifact("report", "report/report.html", "the report", Page(), beside=("report/*",))
RESULT = Artifact("result", "result.json", "the result", Record(RunResult, "srinit.result/2"))

ARTIFACTS = (
    OVERRIDES, DATA_FACTS, BASELINE_OUTCOMES, BASELINE, UNITS, SENSITIVITY, SCORES,
    REFERENCE_SCORES, COMPUTED, PLAN, PLAN_TIMES, ROUND_PLAN, PRUNED, CUT, TRAINING, TUNED,
    TUNE_LOG, VALIDATION, VALIDATION_GATES, READINGS, PREDICTIONS, COMPARISON, PRECISION, SHIFT,
    SITE, SITE_GATES, GATES, OWNERSHIP, OUTCOME, EXPORTS, INT8, ALTERNATIVES, PACKAGE,
    FOLDER_OUTLOOK, PLANNED_FOLDER, FOLDER, PICTURES, REPORT, RESULT,
)  # fmt: skip
