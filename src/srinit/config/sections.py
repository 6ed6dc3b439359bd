"""The sections of the config file, with what each key means; no key is read elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of the config; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(Section):
    """The trained network."""

    source: str = Field(
        description="timm:NAME, torchvision:NAME, hf:FOLDER, py:FILE.py:FACTORY or run:RUN"
    )
    args: dict[str, Any] = Field(default={}, description="keyword arguments of the factory")
    weights: str | None = Field(
        default=None, description=".safetensors, or .pt/.pth holding a state dict"
    )


class PreprocessSection(Section):
    """How an image becomes the network's input; saved with the pruned model."""

    size: tuple[int, int] | None = Field(default=None, description="height, width to resize to")
    crop: tuple[int, int] | None = Field(default=None, description="height, width of a center crop")
    channels: Literal[1, 3] = Field(default=3, description="1: grayscale, 3: RGB")
    mean: tuple[float, ...] = Field(
        default=(0.485, 0.456, 0.406), description="subtracted, per channel, of values in [0, 1]"
    )
    std: tuple[float, ...] = Field(
        default=(0.229, 0.224, 0.225), description="divided by, per channel"
    )


class AugmentSection(Section):
    """Random changes of training images; off unless asked for."""

    crop_padding: int = Field(default=0, ge=0, description="pixels padded before a random crop")
    flip: bool = Field(default=False, description="flip half of the images left to right")


class DataSection(Section):
    """Where examples come from, and which are for what."""

    source: str | None = Field(
        default=None,
        description="folder:DIR, parquet:FILE, npz:FILE, csv:FILE or py:FILE.py:FUNCTION; "
        "shared out by `split`",
    )
    train: str | None = Field(default=None, description="source of the fine-tuning examples")
    calibration: str | None = Field(
        default=None,
        description="source that chooses the layers; `train` draws it out of the training data",
    )
    allow_train_calibration_overlap: bool = Field(
        default=False, description="let training and calibration data share images"
    )
    validation: str | None = Field(default=None, description="source that stops fine-tuning")
    test: str | None = Field(default=None, description="source that is read once, to compare")
    split: dict[Literal["train", "calibration", "validation", "test"], float] = Field(
        default={}, description="shares of `source`, by content hash; they add up to at most 1"
    )
    limit: dict[Literal["train", "calibration", "validation", "test"], int] = Field(
        default={}, description="at most so many examples, drawn by content hash"
    )
    classes: list[str] | None = Field(
        default=None, description="class names in the order of the model's outputs"
    )
    defect_class: str | None = Field(
        default=None, description="the class that means defective; names missed defects"
    )
    preprocess: PreprocessSection = Field(default=PreprocessSection(), description="of images")
    augment: AugmentSection = Field(default=AugmentSection(), description="of training images")
    batch_size: int = Field(default=64, ge=1, le=4096, description="examples a batch")


class BaselineSection(Section):
    """What the unpruned network should reach; a check against silent errors."""

    expected_top1: float | None = Field(
        default=None, ge=0, le=1, description="accuracy you know, a fraction"
    )
    tolerance: float = Field(default=0.03, ge=0, le=1, description="allowed distance from it")


class UnitsSection(Section):
    """What may be removed."""

    keep: list[str] = Field(default=[], description="protected units, names or globs")
    level: Literal["block", "sublayer", "stage"] = Field(default="block", description="grain")


class ScanSection(Section):
    """How sensitivity is measured."""

    scheme: str = Field(
        default="auto", description="auto, paper, default, keep_norm, matched, permuted or py:..."
    )
    scale: float = Field(default=1.0, gt=0, description="factor on the drawn weights")
    draws: int | None = Field(
        default=None, ge=1, description="whole-set draws a unit; default: a fresh draw a batch"
    )
    half_width: float = Field(default=0.02, gt=0, lt=1, description="precision that is enough")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="of every interval")


class PlanSection(Section):
    """What to reach; without any of these nothing is removed."""

    max_drop: float | None = Field(default=None, ge=-1, le=1, description="largest drop of a unit")
    remove: list[str] = Field(default=[], description="units that go in any case")
    params: float | None = Field(
        default=None, gt=0, description="may remain: a fraction up to 1, or a count"
    )
    flops: float | None = Field(default=None, gt=0, description="the same for FLOPs")
    latency: float | None = Field(
        default=None, gt=0, description="the same for latency: a fraction, or milliseconds"
    )
    latency_batch: int = Field(default=1, ge=1, description="batch size that latency speaks of")
    rule: Literal["interval", "point"] = Field(
        default="interval",
        description="interval: the upper bound within max_drop; point: as published",
    )

    def targets(self) -> dict[str, Any]:
        """Return what was asked for, as keyword arguments of `make_plan`."""
        names = ("max_drop", "params", "flops", "latency")
        found = {name: getattr(self, name) for name in names}
        wanted = {name: value for name, value in found.items() if value is not None}
        return {**wanted, "remove": tuple(self.remove)} if self.remove else wanted


class PruneSection(Section):
    """How the plan is carried out."""

    recalibrate: bool = Field(default=True, description="estimate normalization statistics anew")


class FinetuneSection(Section):
    """Recovery after the cut; a command or function of your own may take its place."""

    epochs: float = Field(default=5, ge=0, description="passes over the training data; 0: none")
    optimizer: Literal["sgd", "adamw"] = Field(default="sgd", description="with cosine schedule")
    lr: float | None = Field(default=None, gt=0, description="peak rate; default 0.02 or 5e-4")
    weight_decay: float | None = Field(default=None, ge=0, description="not on norms and biases")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of the steps")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="of the targets")
    distill_weight: float = Field(
        default=0.5, ge=0, le=1, description="share of the loss that copies the unpruned network"
    )
    temperature: float = Field(default=2.0, gt=0, description="of distillation")
    batch_size: int = Field(default=128, ge=2, description="examples a step")
    patience: int | None = Field(
        default=None, ge=1, description="validations without gain before stopping"
    )
    ema: float | None = Field(default=None, gt=0, lt=1, description="decay of averaged weights")
    command: str | None = Field(
        default=None, description="your own training: a command with {weights} and {out}"
    )
    fn: str | None = Field(
        default=None, description="your own training: py:FILE.py:FUNCTION(model, train, validation)"
    )


class CompareSection(Section):
    """How baseline and pruned network are compared on test data."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="of every interval")
    latency_batches: list[int] = Field(default=[1, 64], description="batch sizes to time")


class GatesSection(Section):
    """What the pruned network must hold on test data; each is judged by its interval."""

    max_drop: float | None = Field(
        default=0.02, ge=0, le=1, description="largest loss of accuracy (non-inferiority margin)"
    )
    max_class_recall_drop: float | None = Field(
        default=None, ge=0, le=1, description="the same for the recall of every class"
    )
    max_missed_defect_increase: float | None = Field(
        default=None, ge=0, le=1, description="largest rise of the missed-defect rate"
    )
    max_false_reject_increase: float | None = Field(
        default=None, ge=0, le=1, description="largest rise of the rate of good parts rejected"
    )
    min_agreement: float | None = Field(
        default=None, ge=0, le=1, description="smallest share of equal predictions"
    )
    max_latency_ratio: float | None = Field(
        default=None, gt=0, description="pruned over baseline latency, at every batch size"
    )
    max_params_ratio: float | None = Field(
        default=None, gt=0, le=1, description="pruned over baseline parameters"
    )


class ExportSection(Section):
    """What is written for deployment."""

    onnx: bool = Field(default=True, description="ONNX with a dynamic batch")
    torch_export: bool = Field(default=True, description="torch.export program")
    opset: int | None = Field(
        default=None, ge=17, description="ONNX opset; default: the exporter's"
    )


class RoiSection(Section):
    """What the report computes the return on investment from; all optional."""

    currency: Literal["JPY", "USD", "EUR"] = Field(default="JPY", description="of all amounts")
    pieces_per_year: float | None = Field(default=None, ge=0, description="inspected pieces")
    cost_per_compute_hour: float | None = Field(default=None, ge=0, description="of the device")
    device_price: float | None = Field(default=None, ge=0, description="if bought")
    engineering_hours: float | None = Field(default=None, ge=0, description="one-off work")
    hourly_rate: float | None = Field(default=None, ge=0, description="of that work")
    missed_defect_cost: float | None = Field(default=None, ge=0, description="of one")
    false_reject_cost: float | None = Field(default=None, ge=0, description="of one good part")


class ReportSection(Section):
    """The report."""

    languages: list[Literal["ja", "en"]] = Field(default=["ja", "en"], description="first is shown")
    pictures: int = Field(default=4, ge=0, le=12, description="examples explained by pictures")


class Config(Section):
    """A whole config."""

    name: str = Field(
        default="run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="of the run"
    )
    out: str = Field(default="runs", description="folder that run folders are made in")
    seed: int = Field(default=0, ge=0, lt=2**63, description="every random choice derives from it")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1")
    model: ModelSection = Field(description="the trained network")
    data: DataSection = Field(description="the examples")
    baseline: BaselineSection = Field(default=BaselineSection(), description="expectations")
    units: UnitsSection = Field(default=UnitsSection(), description="what may be removed")
    scan: ScanSection = Field(default=ScanSection(), description="sensitivity")
    plan: PlanSection = Field(default=PlanSection(), description="targets")
    prune: PruneSection = Field(default=PruneSection(), description="the cut")
    finetune: FinetuneSection = Field(default=FinetuneSection(), description="recovery")
    compare: CompareSection = Field(default=CompareSection(), description="on test data")
    gates: GatesSection = Field(default=GatesSection(), description="pass or fail")
    export: ExportSection = Field(default=ExportSection(), description="for deployment")
    report: ReportSection = Field(default=ReportSection(), description="the report")
    roi: RoiSection = Field(default=RoiSection(), description="return on investment")
    root: Path = Field(default=Path(), exclude=True, description="set by the loader")
