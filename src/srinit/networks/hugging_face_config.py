"""Configs of transformers: read, changed by arguments, and written in JSON's own numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from srinit.errors import ConfigError, ModelError
from srinit.networks.hugging_face_gguf import check_readable, gguf_file
from srinit.networks.unknown import unknown

FLOAT = "__float__"  # key of a number that JSON does not know
LOADING = {"attn_implementation", "dtype", "experts_implementation", "num_labels", "torch_dtype"}
MOST_LAYERS = 1024
MOST = 1 << 25  # any other number of a config
_COUNTS = re.compile(r"layers?$|depths?$|blocks?$|stages$|experts$")


def read_config(name: str, changes: Mapping[str, Any], root: Path, download: bool) -> object:
    """Return the config of a folder, file or name in the local cache, with changes.

    Raises:
        ModelError: There is none, or it has no such field.
    """
    import transformers

    place = root / name
    if not place.exists() and (name.startswith((".", "/")) or name.endswith(".json")):
        raise ModelError(f"hf:{name}: {place} does not exist.")
    origin, offline = location(name, root, download)
    try:
        if changes:
            plain = transformers.AutoConfig.from_pretrained(origin, **offline)
            _check_changes(plain, changes)
        return transformers.AutoConfig.from_pretrained(origin, **offline, **changes)
    except OSError as error:
        raise ModelError(
            f"hf:{name} is neither a folder ({place}) nor in the local cache; nothing is fetched. "
            f"Download it first, or write model.allow_download: true. "
            f"({str(error).splitlines()[0]})"
        ) from None


def config_of(body: object, changes: Mapping[str, Any]) -> Any:
    """Return the config that a dictionary describes, with changes.

    Raises:
        ConfigError: It describes none.
        ModelError: It has no field that is to be changed.
    """
    import transformers

    if not isinstance(body, Mapping) or not isinstance(body.get("model_type"), str):
        raise ConfigError("model.args.config is no config of transformers: it has no model_type.")
    values = {k: decoded(v) for k, v in body.items() if k not in ("model_type", "auto_map")}
    try:
        if changes:
            _check_changes(transformers.AutoConfig.for_model(body["model_type"], **values), changes)
        return transformers.AutoConfig.for_model(body["model_type"], **{**values, **changes})
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"model.args.config cannot be read: {error}") from None


def _check_changes(config: Any, changes: Mapping[str, Any]) -> None:
    """Refuse arguments that the config has no field for; transformers would drop them unsaid."""
    for key in changes:
        if key not in LOADING and not hasattr(config, key):
            fields = [name for name in config.to_dict() if not name.startswith("_")]
            raise unknown(f"model.args.{key} (a field of {type(config).__name__})", key, fields)


def location(name: str, root: Path, download: bool) -> tuple[Path | str, dict[str, Any]]:
    """Return what transformers calls a name or path, and how it is kept from fetching."""
    local = (root / name).exists()
    offline = {"local_files_only": local or not download, "trust_remote_code": False}
    packed = gguf_file(root / name)
    if packed is not None:
        check_readable(packed, f"hf:{name}")
        return packed.parent, {**offline, "gguf_file": packed.name}
    return (root / name if local else name), offline


def encoded(tree: object) -> object:
    """Return a config for JSON, which knows no infinity, the way transformers writes its own."""
    if isinstance(tree, float) and not math.isfinite(tree):
        name = "NaN" if math.isnan(tree) else "Infinity" if tree > 0 else "-Infinity"
        return {FLOAT: name}
    if isinstance(tree, Mapping):
        return {key: encoded(value) for key, value in tree.items()}
    return [encoded(value) for value in tree] if isinstance(tree, list | tuple) else tree


def decoded(tree: object) -> Any:
    """Return what `encoded` was given, from JSON's form."""
    if isinstance(tree, Mapping):
        if tree.keys() == {FLOAT} and tree[FLOAT] in ("NaN", "Infinity", "-Infinity"):
            return float(tree[FLOAT])
        return {key: decoded(value) for key, value in tree.items()}
    return [decoded(value) for value in tree] if isinstance(tree, list) else tree


def check_numbers(config: Mapping[str, Any]) -> None:
    """Refuse a config of somebody else with an absurd number.

    Raises:
        ConfigError: It has one.
    """
    for key, value in _numbers(config):
        most = MOST_LAYERS if _COUNTS.search(key) else MOST
        if abs(value) > most:
            raise ConfigError(f"the base's config has {key} = {value:g}; at most {most} is read.")


def _numbers(tree: object, key: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a config with the key it stands under."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _numbers(value, str(name))
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _numbers(value, key)
    elif isinstance(tree, (int, float)) and not isinstance(tree, bool):
        yield key, tree
