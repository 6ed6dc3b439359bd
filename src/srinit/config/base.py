"""What every section of the config has in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

SPLITS = ("train", "calibration", "validation", "test")


class Section(BaseModel):
    """A part of the config; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SourceSection(Section):
    """A section that may be written as its source alone: `model: timm:resnet18`."""

    @model_validator(mode="before")
    @classmethod
    def _source_alone(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value
