"""Reads the one YAML file a run is made from; every problem in it is reported at once."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from srinit.config.sections import Config
from srinit.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 20


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the validated config of a YAML file.

    A `profile:` key (or `--set profile=NAME`) picks one of the overrides under `profiles:`.
    Relative paths in the config are relative to the folder of the file; `out` to the working
    directory.

    Args:
        path: The file.
        overrides: "a.b=value" pairs; values are YAML. Later ones win.

    Raises:
        ConfigError: Every problem of the file, in one message.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror}") from None
    body = parse_yaml(content, where=str(path))
    for pair in overrides:
        _override(body, pair)
    profiles = body.pop("profiles", None) or {}
    chosen = body.pop("profile", None)
    if chosen is not None:
        if not isinstance(profiles, dict) or chosen not in profiles:
            known = ", ".join(map(str, profiles)) if profiles else "none is defined"
            raise ConfigError(f"{path}: there is no profile {chosen!r} (known: {known}).")
        _merge(body, profiles[chosen] or {})
        for pair in overrides:  # what is written on the command line beats the profile
            if not pair.startswith("profile="):
                _override(body, pair)
    body.pop("root", None)
    try:
        config = Config.model_validate(body)
    except ValidationError as error:
        raise ConfigError(f"{path}:\n" + "\n".join(_problems(error))) from None
    return config.model_copy(update={"root": path.absolute().parent})


def parse_yaml(content: bytes, *, where: str) -> dict[str, Any]:
    """Return a YAML mapping read safely: no tags, no aliases, bounded size and depth.

    Raises:
        ConfigError: Not YAML, not a mapping, or beyond the limits.
    """
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{where} is larger than {MAX_BYTES:,} bytes; that is no config.")
    try:
        depth = 0
        for event in yaml.parse(content, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ConfigError(f"{where} uses an alias (*name); write the value out.")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ConfigError(f"{where} is nested deeper than {MAX_DEPTH} levels.")
        body = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(body, dict):
        raise ConfigError(f"{where} should be a mapping of keys, found {type(body).__name__}.")
    return body


def _override(body: dict[str, Any], pair: str) -> None:
    key, equals, text = pair.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {pair!r} should look like a.b=value.")
    value = parse_yaml(f"value: {text}".encode(), where=f"--set {key}")["value"]
    place = body
    *path, last = key.split(".")
    for part in path:
        child = place.setdefault(part, {})
        if child is None:
            child = place[part] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {key}: {part} is not a section.")
        place = child
    place[last] = value


def _merge(body: dict[str, Any], update: dict[str, Any]) -> None:
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(body.get(key), dict):
            _merge(body[key], value)
        else:
            body[key] = value


def _problems(error: ValidationError) -> list[str]:
    """Return one line for every problem; for an unknown key with the nearest known one."""
    lines = []
    for problem in error.errors():
        place = [str(part) for part in problem["loc"]]
        key = ".".join(place)
        if problem["type"] == "extra_forbidden":
            known = _keys_at(place[:-1])
            close = difflib.get_close_matches(place[-1], known, n=1, cutoff=0.0)
            prefix = ".".join([*place[:-1], ""])
            lines.append(f"  {key}: unknown key; did you mean {prefix}{close[0]}?")
        elif problem["type"] == "missing":
            lines.append(f"  {key}: is missing; write {key}: ...")
        else:
            found = repr(problem["input"])
            lines.append(f"  {key}: {problem['msg']} (found {found[:60]})")
    return lines


def _keys_at(path: Sequence[str]) -> list[str]:
    model: type[BaseModel] = Config
    for part in path:
        field = model.model_fields.get(part)
        inner = field.annotation if field is not None else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    extra = ["profile", "profiles"] if model is Config else []
    return [name for name in model.model_fields if name != "root"] + extra
