"""YAML as config files need it: safe, bounded, no aliases, no double keys, the 1.2 core types.

PyYAML reads YAML 1.1, where `no` and `on` are booleans, `1e-4` is a text and `1:30` is ninety. A
class named "no" or a learning rate of 1e-4 must survive, so scalars are told apart by the core
schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema).
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from srinit.errors import ConfigError

MAX_BYTES = 256 << 10
MAX_DEPTH = 20

NULL, BOOL, INT, FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
CORE = (
    (NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        FLOAT,
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


class _Loader(yaml.SafeLoader):
    """The safe loader with the core schema and without double keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; a key that is written twice is an error, never a silent choice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is written twice", key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """The safe dumper, quoting what `_Loader` would not read as text."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write equal lists out, since aliases are refused."""
        return True


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {}  # those of YAML 1.1 belong to the base class
    for _tag, _pattern, _first in CORE:
        _class.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_constructor(INT, _int)


def parse_yaml(content: bytes, *, where: str) -> dict[str, Any]:
    r"""Return a YAML mapping read safely: no tags, no aliases, bounded size and depth.

    Raises:
        ConfigError: Not YAML, not a mapping, a key written twice, or beyond the limits.

    Example:
        >>> parse_yaml(b"lr: 1e-4\nclasses: [yes, no]", where="text")
        {'lr': 0.0001, 'classes': ['yes', 'no']}
    """
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{where} is larger than {MAX_BYTES:,} bytes; that is no config.")
    try:
        _check_events(content, where)
        body = yaml.load(content, Loader=_Loader)
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError, TypeError) as error:
        reason = " ".join(str(error).split()).replace('in "<byte string>", ', "")
        raise ConfigError(f"{where} is not YAML: {reason}") from None
    if not isinstance(body, dict):
        raise ConfigError(f"{where} should be a mapping of keys, found {type(body).__name__}.")
    return body


def _check_events(content: bytes, where: str) -> None:
    """Walk through the document before anything is built."""
    depth = 0
    for event in yaml.parse(content, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{where} uses an alias (*name); write the value out.")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ConfigError(f"{where} is nested deeper than {MAX_DEPTH} levels.")


def dump_yaml(body: Any) -> str:
    """Return `body` as YAML that `parse_yaml` reads back equal.

    Example:
        >>> print(dump_yaml({"lr": 1e-4, "classes": ["no", "1e-4"]}), end="")
        lr: 0.0001
        classes:
        - no
        - '1e-4'
    """
    return yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
