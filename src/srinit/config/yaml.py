"""The one reader and the one writer of YAML: safe, bounded, with the core types of YAML 1.2.

A class named "no", a learning rate of 1e-4 and a lot number 2026-11-24 must survive, so scalars
are told apart by the core schema alone (https://yaml.org/spec/1.2.2/#103-core-schema), which is
narrower than what ruamel.yaml reads of itself. What is written is quoted where the core schema or
YAML 1.1 would not read it as text, so that other programs read the same.
"""

from __future__ import annotations

import io
import re
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.representer import SafeRepresenter
from ruamel.yaml.resolver import BaseResolver, implicit_resolvers

from srinit.errors import ConfigError

MAX_BYTES = 256 << 10
MAX_DEPTH = 20
WIDTH = 96

CORE = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)


class _Core(BaseResolver):
    """Tells scalars apart by the core schema."""

    def __init__(self, version: object = None, loader: object = None) -> None:
        super().__init__(loader)

    @property
    def processing_version(self) -> tuple[int, int]:
        """The version of YAML, whatever a document says of itself."""
        return (1, 2)


class _Any(_Core):
    """Tells what any version of YAML would take for something else than text."""


for _name, _pattern, _first in CORE:
    for _class in (_Core, _Any):
        _class.add_implicit_resolver_base(
            f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z"), ["", *_first]
        )
for _, *_row in implicit_resolvers:
    _Any.add_implicit_resolver_base(*_row)


class _Representer(SafeRepresenter):
    """Writes equal lists out, since aliases are refused; escapes what is no plain letter."""

    def ignore_aliases(self, data: object) -> bool:
        """Return that nothing is written as an alias."""
        return True

    def represent_str(self, data: str) -> object:
        """Return a text, in double quotes where it holds more than letters and line feeds."""
        style = None if data.replace("\n", "").isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    def represent_float(self, data: float) -> Any:
        """Return a number with a point, without which YAML 1.1 takes 1e-07 for a text."""
        node = super().represent_float(data)
        node.value = re.sub(r"^(-?[0-9]+)e", r"\1.0e", node.value)
        return node


_Representer.add_representer(str, _Representer.represent_str)
_Representer.add_representer(float, _Representer.represent_float)


def _yaml(resolver: type[BaseResolver]) -> Any:
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.Resolver, yaml.Representer = resolver, _Representer
    yaml.sort_base_mapping_type_on_output = False
    return yaml


def parse_yaml(content: bytes, *, where: str) -> dict[str, Any]:
    r"""Return a YAML mapping read safely: no tags, no aliases, bounded size and depth.

    Raises:
        ConfigError: Not YAML, not a mapping, a key written twice, or beyond the limits; with the
            line and the column.

    Example:
        >>> parse_yaml(b"lr: 1e-4\nclasses: [yes, no]", where="text")
        {'lr': 0.0001, 'classes': ['yes', 'no']}
    """
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{where} is larger than {MAX_BYTES:,} bytes; that is no config.")
    try:
        _check_events(content, where)
        body = _yaml(_Core).load(content)
    except ConfigError:
        raise
    except (
        YAMLError,
        ValueError,
        LookupError,
        RecursionError,
        ArithmeticError,
        TypeError,
    ) as error:
        raise ConfigError(f"{where} is not YAML: {_reason(error)}") from None
    if not isinstance(body, dict):
        raise ConfigError(f"{where} should be a mapping of keys, found {type(body).__name__}.")
    return body


def _reason(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if not isinstance(error, MarkedYAMLError) or mark is None:
        return " ".join(str(error).split()).replace(' in "<byte string>",', "")
    said = error.problem or error.context
    key = re.match(r'found duplicate key "(.*?)" with value', said, re.DOTALL)
    said = f"the key {key[1]!r} is written twice" if key is not None else said
    return f"{said} (line {mark.line + 1}, column {mark.column + 1})"


def _check_events(content: bytes, where: str) -> None:
    """Walk through the document before anything is built."""
    depth = 0
    for event in _yaml(_Core).parse(content):
        line = f"line {event.start_mark.line + 1}" if event.start_mark is not None else "it"
        if getattr(event, "anchor", None) is not None:
            raise ConfigError(f"{where} uses an alias (&name, *name; {line}); write the value out.")
        if getattr(event, "tag", None) is not None:
            raise ConfigError(f"{where} is not YAML without tags: {event.tag} ({line}).")
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if depth > MAX_DEPTH + 2:  # the stream and the document
            raise ConfigError(f"{where} is nested deeper than {MAX_DEPTH} levels ({line}).")


def dump_yaml(body: object, *, flow: bool = False) -> str:
    """Return `body` as YAML that `parse_yaml` reads back equal.

    Args:
        body: Dicts, lists, texts, numbers, bools and None.
        flow: Write lists and dicts in one line, `[a, b]`.

    Example:
        >>> print(dump_yaml({"lr": 1e-4, "classes": ["no", "1e-4"]}), end="")
        lr: 0.0001
        classes:
        - 'no'
        - '1e-4'
    """
    yaml = _yaml(_Any)
    yaml.default_flow_style, yaml.width = flow, WIDTH
    buffer = io.StringIO()
    yaml.dump(body, buffer)
    return buffer.getvalue().removesuffix("...\n")
