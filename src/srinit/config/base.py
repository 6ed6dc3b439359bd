"""What every section of the config has in common."""

from __future__ import annotations

from typing import Annotated, Any, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from srinit.class_names import canonical

Fraction = Annotated[float, Field(ge=0, le=1)]
OF_OBJECTS = ("defect_iou", "defect_dice", "objects")
"""Scores that look for defects or objects within images."""
OF_PARTS = ("top1", *OF_OBJECTS, "anomaly")
"""Scores that say of what class a part is."""
SPLITS = ("train", "calibration", "validation", "test")


class Section(BaseModel):
    """A part of the config; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuse `batch_size: true`, which pydantic would take for 1."""
        field = cls.model_fields.get(info.field_name or "")
        if field is not None and _holds_truth(value) and not _takes_truth(field.annotation):
            raise ValueError("true and false are no numbers")
        return value

    def changed(self, **values: object) -> Self:
        """Return the same with other values, checked as if they had been given at first."""
        return type(self)(**{**dict(self), **values})


class SourceSection(Section):
    """A section that may be written as its source alone: `model: timm:resnet18`."""

    @model_validator(mode="before")
    @classmethod
    def _source_alone(cls, value: object) -> object:
        return {"source": value} if isinstance(value, str) else value


def composed(value: object) -> object:
    """Return a value whose texts, keys included, are in Unicode form NFC, as class names are.

    Raises:
        ValueError: Two keys become one.
    """
    if isinstance(value, str):
        return canonical(value)
    if isinstance(value, list):
        return [composed(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {composed(key): composed(item) for key, item in value.items()}
    if len(found) < len(value):
        raise ValueError("two keys are the same name in Unicode form NFC")
    return found


def _holds_truth(value: object) -> bool:
    """Return whether a value is, or holds, true or false."""
    if isinstance(value, dict):
        return any(map(_holds_truth, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_truth, value))
    return isinstance(value, bool)


def _takes_truth(annotation: object) -> bool:
    """Return whether true and false have a place in a type, or sections look themselves."""
    if annotation is Any or isinstance(annotation, bool):
        return True
    if isinstance(annotation, type) and issubclass(annotation, bool | BaseModel):
        return True
    return any(map(_takes_truth, get_args(annotation)))
