"""Reads the one YAML file a run is made from; every problem in it is reported at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from srinit.config.problems import across_sections, describe
from srinit.config.sections import Config, PlanSection
from srinit.config.yaml import MAX_BYTES, parse_yaml
from srinit.errors import ConfigError

SHORT: tuple[tuple[str, str, dict[str, bool]], ...] = (
    ("finetune", "auto", {}),
    ("scan", "off", {"measure": False}),
)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the validated config of a YAML file.

    A `profile:` key (or `--set profile=NAME`) picks one of the sets of overrides under
    `profiles:`. What is written on the command line beats the profile, and the profile the file.
    Relative paths in the config are relative to the folder of the file (`Config.root`); `out` to
    the working directory. No model or data is touched, and torch is not imported.

    Args:
        path: The file.
        overrides: "a.b=value" pairs; values are YAML. Later ones win.

    Raises:
        ConfigError: Every problem of the file and the overrides, in one message.
    """
    body = parse_yaml(_content(path), where=str(path))
    for key, word, section in SHORT:  # for the section, which overrides may add to
        if body.get(key) == word:
            body[key] = dict(section)
    problems: list[str] = []
    pairs = _parsed(overrides, problems)
    _apply(body, pairs, problems)
    profiles = body.pop("profiles", None)
    chosen = body.pop("profile", None)
    if profiles is not None and not isinstance(profiles, dict):
        problems.append("  profiles: should be a mapping of names to overrides")
        profiles = {}
    if chosen is not None:
        _use_profile(body, profiles or {}, chosen, problems)
        _apply(body, [pair for pair in pairs if pair[0] != ["profile"]], problems)
    config: Config | None = None
    try:
        config = Config.model_validate(body)
    except ValidationError as error:
        problems += describe(error)
    problems += across_sections(body)
    if "root" in body:
        problems.append("  root: unknown key; paths are relative to the folder of the config")
    if problems or config is None:
        raise ConfigError(f"{path}:\n" + "\n".join(dict.fromkeys(problems)))
    return config.model_copy(update={"root": path.absolute().parent})


def check_targets(targets: Mapping[str, Any]) -> dict[str, Any]:
    """Return targets as the config's `plan` section would hold them: "3.2ms" is 3.2.

    Raises:
        ConfigError: It could not hold them.
    """
    try:
        section = PlanSection.model_validate(dict(targets))
    except ValidationError as error:
        raise ConfigError("the target of the plan:\n" + "\n".join(describe(error))) from None
    return {key: getattr(section, key) for key in targets}


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise ConfigError(
                f"cannot read the config {path}: "
                + ("it is no file." if path.exists() else "there is no such file.")
            )
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read the config {path}: {reason}.") from None


def _parsed(overrides: Sequence[str], problems: list[str]) -> list[tuple[list[str], Any]]:
    """Return the path and the value of every "a.b=value"."""
    found = []
    for pair in overrides:
        key, equals, text = pair.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            problems.append(f"  --set {pair!r} should look like a.b=value")
            continue
        try:
            value = parse_yaml(f"value: {text}".encode(), where=f"--set {key}")
        except UnicodeEncodeError:
            problems.append(f"  --set {pair!r} is not UTF-8")
            continue
        except ConfigError as error:
            problems.append(f"  {error}")
            continue
        found.append((parts, value.get("value")))
    return found


def _apply(
    body: dict[str, Any], pairs: Sequence[tuple[list[str], Any]], problems: list[str]
) -> None:
    for (*path, last), value in pairs:
        place = body
        for depth, part in enumerate(path):
            child = place.get(part)
            if child is None or (depth == 0 and isinstance(child, str)):
                # `model: timm:resnet18` is short for a section with that source
                child = place[part] = {} if child is None else {"source": child}
            if not isinstance(child, dict):
                problems.append(f"  --set {'.'.join([*path, last])}: {part} is not a section")
                break
            place = child
        else:
            place[last] = value


def _use_profile(
    body: dict[str, Any], profiles: dict[Any, Any], chosen: object, problems: list[str]
) -> None:
    if not isinstance(chosen, str) or chosen not in profiles:
        known = ", ".join(map(str, profiles)) if profiles else "none is defined"
        problems.append(f"  profile: there is no profile {chosen!r} (known: {known})")
    elif not isinstance(profiles[chosen] or {}, dict):
        problems.append(f"  profiles.{chosen}: should be a mapping of overrides")
    else:
        _merge(body, profiles[chosen] or {})


def _merge(body: dict[str, Any], update: dict[str, Any]) -> None:
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(body.get(key), dict):
            _merge(body[key], value)
        else:
            body[key] = value
