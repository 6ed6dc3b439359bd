"""The whole config: every section, with what each key means; no key is read elsewhere."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from srinit.config.base import Section
from srinit.config.inputs import (
    AugmentSection,
    BoxesSection,
    DataSection,
    MasksSection,
    ModelSection,
    PreprocessSection,
    TextSection,
)
from srinit.config.judging import CompareSection, GatesSection, RobustnessSection
from srinit.config.outputs import (
    AlternativesSection,
    ExportSection,
    InferenceCostSection,
    MonitorSection,
    RegistrySection,
    ReportSection,
    RoiInputs,
)
from srinit.config.recovery import FinetuneSection
from srinit.config.steps import (
    BaselineSection,
    CompensateSection,
    PlanSection,
    PruneSection,
    ScanSection,
    UnitsSection,
)

__all__ = [
    "AlternativesSection",
    "AugmentSection",
    "BaselineSection",
    "BoxesSection",
    "CompareSection",
    "CompensateSection",
    "Config",
    "DataSection",
    "ExportSection",
    "FinetuneSection",
    "GatesSection",
    "InferenceCostSection",
    "MasksSection",
    "ModelSection",
    "MonitorSection",
    "PlanSection",
    "PreprocessSection",
    "PruneSection",
    "RegistrySection",
    "ReportSection",
    "RobustnessSection",
    "RoiInputs",
    "ScanSection",
    "Section",
    "TextSection",
    "UnitsSection",
]


class Config(Section):
    """A whole config; model and data are all it needs."""

    name: str = Field(
        default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="of the run"
    )
    out: str = Field(
        default="runs",
        min_length=1,
        description="folder that run folders are made in, relative to where srinit is started",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="every random choice derives from it")
    device: str = Field(
        default="auto",
        pattern=r"^(auto|[a-z]+(:[0-9]+)?)$",
        description="auto (the first GPU, else the CPU), cpu, cuda, cuda:1",
    )
    score: str = Field(
        default="top1",
        pattern=r"^(top1|token_accuracy|next_token_(accuracy|probability)|image_iou|agreement|"
        r"defect_(iou|dice)|objects|anomaly|py:.+:.+)$",
        description="of an example, in [0, 1]: top1, token_accuracy, next_token_accuracy, "
        "next_token_probability, image_iou, agreement (with the unpruned network, without labels), "
        "defect_iou or defect_dice (segmentation of defects), objects (detection), "
        "anomaly (distance from good parts), or py:FILE.py:FUNCTION",
    )
    model: ModelSection = Field(description="the trained network")
    data: DataSection = Field(description="the examples")
    baseline: BaselineSection = Field(default=BaselineSection(), description="expectations")
    units: UnitsSection = Field(default=UnitsSection(), description="what may be removed")
    scan: ScanSection = Field(default=ScanSection(), description="sensitivity")
    plan: PlanSection = Field(default=PlanSection(), description="targets")
    prune: PruneSection = Field(default=PruneSection(), description="the cut")
    compensate: CompensateSection = Field(
        default=CompensateSection(), description="after the cut, without training"
    )
    finetune: FinetuneSection = Field(default=FinetuneSection(), description="recovery")
    compare: CompareSection = Field(default=CompareSection(), description="on test data")
    shift: RobustnessSection = Field(
        default=RobustnessSection(), description="noise and other light"
    )
    gates: GatesSection = Field(default=GatesSection(), description="pass or fail")
    export: ExportSection = Field(default=ExportSection(), description="for deployment")
    alternatives: AlternativesSection = Field(
        default=AlternativesSection(), description="beside pruning"
    )
    report: ReportSection = Field(default=ReportSection(), description="the report")
    registry: RegistrySection = Field(default=RegistrySection(), description="versions")
    monitor: MonitorSection = Field(default=MonitorSection(), description="in operation")
    ownership: InferenceCostSection = Field(default=InferenceCostSection(), description="energy")
    roi: RoiInputs = Field(default=RoiInputs(), description="return on investment")
    root: Path = Field(default=Path(), exclude=True, description="set by the loader")
