"""Frozen records that steps hand on, and their JSON form: readable, diffable, checked on load."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, TypeVar, dataclass_transform

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from srinit.errors import ConfigError

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make a class a frozen, keyword-only dataclass whose JSON form refuses unknown keys."""
    cls.__pydantic_config__ = ConfigDict(extra="forbid", strict=False)  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True, kw_only=True)(cls)


@record
class Interval:
    """An estimate with its uncertainty: every number of the package that has ends is one."""

    value: float | None  # None: nothing was observed; the ends are then what is possible at all
    low: float
    high: float
    confidence: float  # in (0, 1)

    @property
    def known(self) -> float:
        """The value, of what was surely observed.

        Raises:
            ValueError: Nothing was observed.
        """
        if self.value is None:
            raise ValueError("nothing was observed: this interval has no value.")
        return self.value

    def __neg__(self) -> Interval:
        """The same with the sign changed: of a gain where this is of a loss."""
        value = None if self.value is None else -self.value
        return Interval(value=value, low=-self.high, high=-self.low, confidence=self.confidence)


def to_json(value: object, *, schema: str) -> str:
    """Return the JSON text of a record: two-space indent, keys in declared order, no NaN.

    A NaN or infinity is written as null. The first key is `schema`.

    Args:
        value: A record.
        schema: Name and version of its form, e.g. "srinit.plan/1".
    """
    body = {"schema": schema, **plain(value)}
    return json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(cls: type[T], text: str | bytes, *, schema: str, where: str = "the file") -> T:
    """Return the record of type `cls` that `to_json` wrote.

    Raises:
        ConfigError: Not JSON, another schema, or keys and values that do not fit; every problem
            is listed, with its place.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not JSON: {error}") from None
    if not isinstance(body, dict) or body.get("schema") != schema:
        found = body.get("schema") if isinstance(body, dict) else type(body).__name__
        raise ConfigError(f"{where} should have schema {schema!r}, found {found!r}.")
    del body["schema"]
    try:
        return TypeAdapter(cls).validate_python(body)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise ConfigError(f"{where} is not a valid {schema}:\n" + "\n".join(lines)) from None


def of_plain(cls: type[T], value: object) -> T:
    """Return the record of type `cls` that `plain` took apart."""
    return TypeAdapter(cls).validate_python(value)


def plain(value: object) -> Any:
    """Return `value` as dicts, lists, strings and finite numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, BaseModel):
        return plain(dict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if hasattr(value, "item"):  # numpy scalars
        return plain(value.item())
    raise TypeError(f"{type(value).__name__} has no place in a record")
