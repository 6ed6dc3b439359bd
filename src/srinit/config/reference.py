"""The reference of all keys, made from the sections themselves: it cannot be out of date."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from srinit.config.sections import Config
from srinit.config.yaml import WIDTH, dump_yaml


def reference() -> str:
    """Return every key of the config with its default, as commented YAML."""
    return "\n".join(_section(Config, "")) + "\n"


def _section(model: type[BaseModel], indent: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name == "root":
            continue
        inner = _inner(field)
        if inner is None:
            yield from _wrapped(str(field.description), f"{indent}# ")
            yield f"{indent}{name}: {_default(field)}"
            continue
        if not indent:
            yield ""
        yield from _wrapped(str(inner.__doc__).split("\n")[0], f"{indent}# ")
        yield f"{indent}{name}:"
        yield from _section(inner, indent + "  ")


def _inner(field: FieldInfo) -> type[BaseModel] | None:
    if isinstance(field.default, list):  # of sections: how each is written stands elsewhere
        return None
    for found in (field.annotation, *get_args(field.annotation)):
        if isinstance(found, type) and issubclass(found, BaseModel):
            return found
    return None


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "..."
    return _written(list(field.default) if isinstance(field.default, tuple) else field.default)


def _written(value: object) -> str:
    return dump_yaml(value, flow=True).strip()


def _wrapped(text: str, prefix: str) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(prefix) + len(line) + 1 + len(word) > WIDTH:
            yield prefix + line
            line = ""
        line = f"{line} {word}".strip()
    yield prefix + line
