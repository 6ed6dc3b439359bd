"""Sections of what is done up to the cut: baseline, units, scan, plan, prune, compensate."""

from __future__ import annotations

import difflib
import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from srinit.config.base import Fraction, Section

CRITERIA = (
    "reinit_drop", "removal_drop", "output_cka", "block_influence", "cka", "l1", "taylor",
    "position", "random",
)  # fmt: skip
AUTO = "auto"  # block_influence, or for deep cuts the next
COMPENSATED = "compensated_distance"  # ranks too, by trials; `srinit.trial.removal_distances`
SHALLOW = "block_influence"


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
    """How sensitivity is measured; `scan: off` is short for `scan: {measure: false}`."""

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
    measure: bool = Field(
        default=True,
        description="false, also written `scan: off`: no scan; another criterion has to rank",
    )

    @model_validator(mode="before")
    @classmethod
    def _off_is_short(cls, value: object) -> object:
        return {"measure": False} if value == "off" else value

    def options(self) -> dict[str, Any]:
        """Return what `measure_sensitivity` takes of it."""
        return self.model_dump(exclude={"measure", "num_remove"})


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
    runtime: Literal["torch", "onnxruntime", "openvino"] = Field(
        default="torch",
        description="what takes the latencies: torch on the device, the others on the CPU",
    )
    measured: str | None = Field(
        default=None,
        min_length=1,
        description="times.json of another device in place of times taken here; see docs/edge.md",
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
