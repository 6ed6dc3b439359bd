"""Sections of what is judged: the comparison on test data, corrupted images, the gates."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from srinit.config.base import Fraction, Section, composed


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
    max_class_recall_drop: Fraction | dict[str, Fraction] | Literal["auto"] | None = Field(
        default="auto",
        description="the same for the recall of every class; or of those named, {scratch: 0.01}; "
        "auto: no class may get significantly worse, as far as its test examples show",
    )
    max_missed_defect_increase: Fraction | dict[str, Fraction] | None = Field(
        default=None,
        description="largest rise of the missed-defect rate; or of the defect classes named",
    )
    max_missed_object_increase: Fraction | dict[str, Fraction] | None = Field(
        default=None,
        description="largest rise of the share of defects or objects missed, counted one by one "
        "within images; or of those of the classes named",
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

    @field_validator("max_class_recall_drop", "max_missed_defect_increase",
                     "max_missed_object_increase")  # fmt: skip
    @classmethod
    def _composed(cls, value: object) -> object:
        return composed(value)

    def limits(self) -> dict[str, float | dict[str, float]]:
        """Return the gates that are set, as `check_gates` takes them."""
        given = self.model_dump(exclude={"site"})
        if given["max_class_recall_drop"] == "auto":
            given["max_class_recall_drop"], given["max_worse_classes"] = None, 0.0
        return {name: value for name, value in given.items() if value is not None}
