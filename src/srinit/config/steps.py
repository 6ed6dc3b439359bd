"""Sections of what is done: baseline, units, scan, plan, cut, recovery, comparison, gates."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from srinit.config.base import Section, composed

CRITERIA = (
    "reinit_drop", "removal_drop", "output_cka", "block_influence", "cka", "l1", "taylor",
    "position", "random",
)  # fmt: skip
AUTO = "auto"  # block_influence, or for deep cuts the next
COMPENSATED = "compensated_distance"  # ranks too, by trials; `srinit.trial.removal_distances`
SHALLOW = "block_influence"
Fraction = Annotated[float, Field(ge=0, le=1)]
Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["finetune", "rewind"]
TrainingPrecision = Literal["auto", "float32", "bfloat16", "float16"]


def _criterion(value: str, more: tuple[str, ...] = (), others: str = "") -> str:
    names = (*CRITERIA, *more)
    if value in names:
        return value
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.0)[0]
    known = ", ".join(names) + others
    raise ValueError(f"there is no criterion {value!r} (nearest: {near}); known are {known}")


class BaselineSection(Section):
    """What the unpruned network should reach; a check against silent errors."""

    expected_top1: Fraction | None = Field(
        default=None, description="accuracy you know, a fraction"
    )
    tolerance: Fraction = Field(default=0.03, description="allowed distance from it")


class UnitsSection(Section):
    """What may be removed."""

    keep: list[str] = Field(default=[], description="protected units, names or globs")
    level: Literal["block", "sublayer", "stage"] = Field(default="block", description="grain")
    include_plain: bool = Field(
        default=False, description="offer layers without a shortcut around them (VGG, MobileNetV1)"
    )
    select: list[str] | None = Field(
        default=None, description="offer only these units, of any grain, names or globs"
    )


class ScanSection(Section):
    """How sensitivity is measured."""

    scheme: str = Field(
        default="auto", description="auto, paper, default, keep_norm, matched or permuted"
    )
    scale: float = Field(default=1.0, gt=0, le=1e6, description="factor on the drawn weights")
    draws: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="whole-set draws a unit; default: a fresh draw a batch",
    )
    half_width: float = Field(default=0.02, gt=0, lt=1, description="precision that is enough")
    confidence: float = Field(default=0.95, ge=0.5, lt=1, description="of every interval")
    precision: Literal["equal", "decide"] = Field(
        default="equal",
        description="equal: the same for every unit; decide: wide intervals for units that surely "
        "go or stay, by plan.max_drop or by how many units the plan removes",
    )
    num_remove: int | None = Field(
        default=None,
        ge=1,
        description="how many units go, for precision: decide; default: about as the plan says",
    )


class PlanSection(Section):
    """What to reach; without any of these nothing is removed."""

    max_drop: float | None = Field(default=None, ge=-1, le=1, description="largest drop of a unit")
    remove: list[str] = Field(default=[], description="units that go in any case")
    params: float | None = Field(
        default=None, gt=0, description="may remain: a fraction up to 1, or a count above 1"
    )
    flops: float | None = Field(default=None, gt=0, description="the same for FLOPs")
    latency: float | None = Field(
        default=None,
        gt=0,
        description="the same for latency: a fraction up to 1, or above 1 milliseconds, "
        "also written 3.2ms",
    )
    latency_batch: int = Field(
        default=1, ge=1, le=65536, description="batch size that latency speaks of"
    )
    units: int | None = Field(
        default=None, ge=1, description="so many units go; more only for a budget"
    )
    contiguous: bool = Field(
        default=False,
        description="they follow one another: the run with the lowest sum of what ranks; "
        "needs units",
    )
    keep_first: int = Field(
        default=0, ge=0, description="units at the beginning, of those that may go, that stay"
    )
    keep_last: int = Field(default=0, ge=0, description="the same at the end")
    criterion: str = Field(
        default=AUTO,
        description="what ranks: auto (block_influence, or compensated_distance where more than "
        "45 % of the units go), block_influence, reinit_drop (the scan), removal_drop, cka, "
        "output_cka, taylor, l1, position, random, compensated_distance (trials), "
        "or py:FILE.py:FUNCTION; see docs/criteria.md",
    )
    criterion_examples: int | None = Field(
        default=2048,
        ge=2,
        description="calibration examples another criterion than the scan reads at most",
    )
    beside: list[str] = Field(
        default=["removal_drop"],
        description="criteria that are measured too and stand beside what ranks in the report",
    )
    beside_examples: int = Field(
        default=128, ge=2, description="calibration examples each of them reads"
    )
    trial_examples: int = Field(
        default=500,
        ge=0,
        description="calibration examples on which every removal is tried on a copy; 0: no trial",
    )
    trial_half_width: float | None = Field(
        default=0.03,
        gt=0,
        le=1,
        description="a trial ends before that many examples once the interval of its cost is that "
        "narrow; null: all are read",
    )
    trial_max_drop: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="units whose trial surely costs more stay; default: none is barred",
    )
    trial_steps: int = Field(
        default=0,
        ge=0,
        description="steps of recovery on the training data in each trial, before it is measured; "
        "0: none",
    )
    rule: Literal["interval", "point"] = Field(
        default="interval",
        description="interval: the upper bound within max_drop; point: as published",
    )

    @field_validator("criterion")
    @classmethod
    def _known(cls, value: str) -> str:
        if value.startswith("py:"):
            return value
        return _criterion(value, (AUTO, COMPENSATED), ", py:FILE.py:FUNCTION")

    @field_validator("beside")
    @classmethod
    def _all_known(cls, values: list[str]) -> list[str]:
        return [_criterion(value) for value in dict.fromkeys(values)]

    @field_validator("latency", mode="before")
    @classmethod
    def _milliseconds(cls, value: object) -> object:
        found = re.fullmatch(r"\s*([0-9.]+)\s*(ms|s)\s*", value) if isinstance(value, str) else None
        if found is None:
            return value
        milliseconds = float(found[1]) * (1000 if found[2] == "s" else 1)
        if milliseconds <= 1:
            raise ValueError(
                "a time of at most 1 ms cannot be told from a fraction; "
                "write the fraction of the unpruned network's latency"
            )
        return milliseconds

    @model_validator(mode="after")
    def _a_run_has_a_length(self) -> PlanSection:
        beside = [name for name in ("params", "flops", "latency", "remove") if getattr(self, name)]
        if self.contiguous and self.units is None:
            raise ValueError("contiguous needs units: how many follow one another")
        if self.contiguous and beside:
            raise ValueError(f"contiguous chooses all units at once; leave {beside[0]} out")
        return self

    @field_validator("params", "flops")
    @classmethod
    def _a_count_is_whole(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError("a fraction lies in (0, 1]; above 1 it is a count, a whole number")
        return value

    def targets(self) -> dict[str, Any]:
        """Return what was asked for, as keyword arguments of `make_plan`."""
        names = ("max_drop", "params", "flops", "latency", "units")
        found = {name: getattr(self, name) for name in names}
        wanted = {name: value for name, value in found.items() if value is not None}
        return {**wanted, "remove": tuple(self.remove)} if self.remove else wanted


class StepSection(Section):
    """How much one round removes, in place of the number of rounds; at most one of these."""

    units: int | None = Field(default=None, ge=1, description="so many units")
    params: float | None = Field(
        default=None, gt=0, lt=1, description="share of the unpruned network's parameters"
    )
    flops: float | None = Field(default=None, gt=0, lt=1, description="the same for FLOPs")

    @model_validator(mode="after")
    def _one_measure(self) -> StepSection:
        if sum(value is not None for value in (self.units, self.params, self.flops)) > 1:
            raise ValueError("give one of units, params and flops")
        return self

    @property
    def given(self) -> bool:
        """Whether the size of a round was chosen."""
        return any(value is not None for value in (self.units, self.params, self.flops))


class PruneSection(Section):
    """How the plan is carried out."""

    recalibrate: bool = Field(
        default=True, description="let new normalization statistics be a candidate after the cut"
    )
    rounds: int = Field(
        default=1, ge=1, le=100, description="equal steps to the target, each scanned and gated"
    )
    step: StepSection = Field(
        default=StepSection(), description="size of a round, in place of their number"
    )

    @model_validator(mode="before")
    @classmethod
    def _earlier_key(cls, value: object) -> object:
        """Take `stages`, the earlier name of `rounds`."""
        if not isinstance(value, dict) or "stages" not in value:
            return value
        if "rounds" in value:
            raise ValueError("rounds and stages are both given, and mean the same; keep rounds")
        return {("rounds" if key == "stages" else key): each for key, each in value.items()}

    @model_validator(mode="after")
    def _rounds_or_step(self) -> PruneSection:
        if self.step.given and self.rounds != 1:
            raise ValueError("rounds and step are both given; keep one")
        return self

    @property
    def in_rounds(self) -> bool:
        """Whether the target is approached in more than one round."""
        return self.rounds > 1 or self.step.given


class CompensateSection(Section):
    """What makes up for a cut without training or labels, between the cut and fine-tuning."""

    method: Literal["auto", "fold", "recalibrate", "none"] = Field(
        default="auto",
        description="auto: nothing, recalibration, a fold or realignment, chosen by calibration "
        "examples that it was not fitted on; fold: the first three, so that of all weights the "
        "last before a cut alone change; recalibrate: nothing or recalibration; none",
    )
    examples: int = Field(
        default=1000,
        ge=8,
        description="calibration examples, labels not read, to fit and choose by",
    )


class RecipeSettings(Section):
    """How a network is trained after a cut; `srinit.finetune.Recipe` has the same settings."""

    epochs: float = Field(
        default=5, ge=0, le=100_000, description="passes over the training data; 0: none"
    )
    optimizer: Optimizer = Field(default="sgd", description="with cosine schedule")
    lr: float | None = Field(default=None, gt=0, description="peak rate; default 0.02 or 5e-4")
    weight_decay: float | None = Field(default=None, ge=0, description="not on norms and biases")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of the steps")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="of the targets")
    distill_weight: Fraction = Field(
        default=0.5, description="share of the loss that copies the unpruned network"
    )
    temperature: float = Field(default=2.0, gt=0, description="of distillation")
    feature_weight: float = Field(
        default=0.0, ge=0, description="weight of copying features after every cut; 0: none"
    )
    schedule: Schedule = Field(
        default="finetune", description="rewind: default peak rate 0.1 or 2e-3, of a first training"
    )
    batch_size: int = Field(default=128, ge=1, le=65536, description="examples a step")
    patience: int | None = Field(
        default=None, ge=1, description="validations without gain before stopping"
    )
    ema: float | None = Field(
        default=None, gt=0, lt=1, title="decay", description="decay of averaged weights"
    )
    precision: TrainingPrecision = Field(
        default="auto",
        description="of the forward pass; auto: bfloat16 where device and network gain by it",
    )


class FinetuneSection(RecipeSettings):
    """Recovery after the cut; a command or function of your own may take its place."""

    recipe: Literal["default", "auto"] = Field(
        default="default",
        description="auto, also written `finetune: auto`: keys above that are left at their "
        "defaults are chosen from the size of the data",
    )
    loss: str | None = Field(
        default=None,
        pattern=r"^(cross_entropy|next_token|.+:.+)$",
        description="cross_entropy (each place predicts its own target), next_token (the token "
        "after it) or py:FILE.py:FUNCTION(output, target), a scalar; default: what belongs to "
        "score, which has to be named for a score of your own",
    )
    rehearsal: int = Field(
        default=10,
        ge=0,
        description="steps of recovery tried on a copy of the cut network before it is trained, to "
        "say what to expect; 0: none",
    )
    command: str | None = Field(
        default=None, description="your own training: a command with {weights} and {out}"
    )
    fn: str | None = Field(
        default=None, description="your own training: py:FILE.py:FUNCTION(model, train, validation)"
    )

    @field_validator("batch_size")
    @classmethod
    def _more_than_one(cls, value: int) -> int:
        if value < 2:  # of one example, batch normalization has no spread
            raise ValueError("should be greater than or equal to 2")
        return value

    @model_validator(mode="before")
    @classmethod
    def _auto_is_short(cls, value: object) -> object:
        return {"recipe": "auto"} if value == "auto" else value

    @model_validator(mode="after")
    def _one_way_of_training(self) -> FinetuneSection:
        if self.command is not None and self.fn is not None:
            raise ValueError("command and fn are both given; keep one")
        lacking = [part for part in ("{weights}", "{out}") if part not in (self.command or part)]
        if lacking:
            raise ValueError(f"command should name {' and '.join(lacking)}")
        return self


class CompareSection(Section):
    """How baseline and pruned network are compared on test data."""

    confidence: float = Field(default=0.95, ge=0.5, lt=1, description="of every interval")
    latency_batches: list[Annotated[int, Field(ge=1, le=65536)]] = Field(
        default=[1, 64], description="batch sizes to time"
    )
    on_production_device: bool = Field(
        default=False,
        description="times are taken where the model will run; else the report asks for that",
    )


class RobustnessSection(Section):
    """Both networks on corrupted test images: noise, blur, light, compression, occlusion."""

    examples: int = Field(default=0, ge=0, description="test images, chosen by content; 0: none")
    corruptions: list[str] = Field(
        default=["noise", "blur", "brightness", "contrast", "jpeg", "resolution", "occlusion"],
        min_length=1,
        description="names, and your own: py:FILE.py:FUNCTION(image, severity)",
    )
    severities: list[Annotated[int, Field(ge=1, le=5)]] = Field(
        default=[1, 3, 5], min_length=1, description="from 1 to 5"
    )


class GatesSection(Section):
    """What the pruned network must hold on test data; each is judged by its interval."""

    max_drop: Fraction | None = Field(
        default=0.02, description="largest loss of accuracy (non-inferiority margin)"
    )
    max_class_recall_drop: Fraction | dict[str, Fraction] | None = Field(
        default=None,
        description="the same for the recall of every class; or of those named, {scratch: 0.01}",
    )
    max_missed_defect_increase: Fraction | dict[str, Fraction] | None = Field(
        default=None,
        description="largest rise of the missed-defect rate; or of the defect classes named",
    )
    max_missed_defect_rate: Fraction | None = Field(
        default=None, description="largest missed-defect rate, whatever it was before"
    )
    max_false_reject_increase: Fraction | None = Field(
        default=None, description="largest rise of the rate of good parts rejected"
    )
    max_cost_increase: float | None = Field(
        default=None, ge=0, description="largest rise of the expected cost of errors of one piece"
    )
    max_shift_drop: Fraction | None = Field(
        default=None,
        description="largest loss of accuracy on corrupted images, at every point of shift",
    )
    min_agreement: Fraction | None = Field(
        default=None, description="smallest share of equal predictions"
    )
    max_latency_ratio: float | None = Field(
        default=None, gt=0, description="pruned over baseline latency, at every batch size"
    )
    max_perplexity_ratio: float | None = Field(
        default=None, gt=0, description="pruned over baseline perplexity, of language models"
    )
    max_params_ratio: float | None = Field(
        default=None, gt=0, le=1, description="pruned over baseline parameters"
    )

    site: bool = Field(
        default=False,
        description="data.site must hold the limits on errors, too (without labels: min_agreement)",
    )

    @field_validator("max_class_recall_drop", "max_missed_defect_increase")
    @classmethod
    def _composed(cls, value: object) -> object:
        return composed(value)

    def limits(self) -> dict[str, float | dict[str, float]]:
        """Return the gates that are set, as `check_gates` takes them."""
        given = self.model_dump(exclude={"site"})
        return {name: value for name, value in given.items() if value is not None}
