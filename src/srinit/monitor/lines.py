"""Lines of a prediction log: what one may hold, and in words what is wrong with others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Required

from pydantic import AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

Text = Annotated[str, Field(min_length=1, max_length=1024)]
Unit = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Features = Annotated[tuple[Number, ...], Field(max_length=4096)]
MAX_LINE = 1 << 20
NEEDED = ("model", "prediction", "confidence", "latency_ms")

_NEEDED = frozenset(NEEDED)


class Line(TypedDict, total=False):
    """Any line: a prediction, a label that came later, or a part that got no answer."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    time: Required[AwareDatetime]
    image: Required[Text]
    model: Text
    prediction: Text
    confidence: Unit
    latency_ms: Time
    label: Text | None
    shadow: Text | None
    brightness: Number | None
    contrast: Number | None
    sharpness: Number | None
    features: Features | None
    error: Text | None


_ONE: TypeAdapter[Line] = TypeAdapter(Line)
_MANY: TypeAdapter[list[Line]] = TypeAdapter(list[Line])


def parsed(lines: Sequence[bytes]) -> list[Line | str]:
    """Return what every line holds, or in words what is wrong with it; "" for an empty line.

    Example:
        >>> parsed([b'{"image": 1}', b"{"])[1][:11]
        'is not JSON'
    """
    try:
        found = _MANY.validate_json(b"[" + b",".join(lines) + b"]")
        if len(found) == len(lines) and not any(map(_lacks, found)):
            return list(found)
    except ValidationError:
        pass
    return [_parsed(line) for line in lines]


def _parsed(line: bytes) -> Line | str:
    if not line.strip():
        return ""
    if len(line) > MAX_LINE:
        return f"is longer than {MAX_LINE:,} bytes"
    try:
        found = _ONE.validate_json(line)
    except ValidationError as error:
        return said(error)
    return _lacks(found) or found


def _lacks(line: Line) -> str:
    """Return in words which field a prediction lacks; a label or a failure needs fewer."""
    if line.keys() >= _NEEDED:
        return ""
    if "prediction" not in line and (line.get("label") or line.get("error")):
        return ""
    missing = [name for name in NEEDED if name not in line]
    return f"{', '.join(missing)}: Field required" if missing else ""


def said(error: ValueError) -> str:
    """Return in words what a line was refused for."""
    if not isinstance(error, ValidationError):
        return f"is not JSON ({error})"
    problems = error.errors()
    if problems[0]["type"] == "json_invalid":
        return f"is not JSON ({problems[0]['msg'].removeprefix('Invalid JSON: ')})"
    return "; ".join(
        f"{'.'.join(map(str, each['loc'])) or 'the line'}: {each['msg']}" for each in problems[:3]
    )
