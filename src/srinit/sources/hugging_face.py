"""Models of transformers: from a local folder, the local cache, or a config that is given."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srinit.errors import ConfigError, ModelError, require
from srinit.sources.unknown import unknown

MOST_LAYERS = 1024
MOST = 1 << 25  # any other number of a config
FLOAT = "__float__"  # key of a number that JSON does not know
_COUNTS = re.compile(r"layers?$|depths?$|blocks?$|stages$|experts$")


def hugging_face_model(name: str, args: dict[str, Any], root: Path, download: bool) -> nn.Module:
    """Return a model of transformers from a local folder, config file or cache.

    Code that lies in the folder is never run. `args.auto` names the class, for example
    AutoModelForImageClassification; `args.config` is a whole config, with which no folder is
    needed; the other arguments go to the config.

    Raises:
        ConfigError: There is no such class, or the config is not one.
        ModelError: There is no such folder.
    """
    require("transformers", "hf", f"for hf:{name}")
    auto = _auto_class(str(args.pop("auto", "AutoModel")))
    if "config" in args:
        given: nn.Module = auto.from_config(_config_of(args.pop("config"), args))
        return given
    place = root / name
    config = _read_config(name, args, root, download)
    if place.exists() and (place.is_file() or not list(place.glob("*.safetensors"))):
        model: nn.Module = auto.from_config(config)
        return model
    where, offline = _where(name, root, download)
    found: nn.Module = auto.from_pretrained(where, config=config, use_safetensors=True, **offline)
    return found


def self_contained(args: Mapping[str, Any], name: str, root: Path) -> dict[str, Any]:
    """Return arguments from which the same architecture is built without the folder `name`.

    Args:
        args: As for `hugging_face_model`.
        name: Folder, config file or name in the local cache.
        root: Folder that a relative path starts from.

    Raises:
        ModelError: There is no such folder.
    """
    if "config" in args:
        return dict(args)
    changes = {key: value for key, value in args.items() if key != "auto"}
    config = _read_config(name, changes, root, download=False)
    kept = {key: args[key] for key in ("auto",) if key in args}
    return {**kept, "config": _encoded(config.to_dict())}


def check_sizes(args: Mapping[str, Any], *, limit: int) -> None:
    """Refuse a config of somebody else that describes an absurdly large network.

    Nothing of its size is allocated: the network is built on the meta device.

    Args:
        args: As for `hugging_face_model`, with `config`.
        limit: Bytes that its parameters may take.

    Raises:
        ConfigError: It is too large, or no config.
    """
    config = args.get("config")
    if not isinstance(config, Mapping):
        return
    for key, value in _numbers(config):
        most = MOST_LAYERS if _COUNTS.search(key) else MOST
        if abs(value) > most:
            raise ConfigError(f"the base's config has {key} = {value:g}; at most {most} is read.")
    auto = _auto_class(str(args.get("auto", "AutoModel")))
    with torch.device("meta"):
        model: nn.Module = auto.from_config(_config_of(config, {}))
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    if size > limit:
        raise ConfigError(
            f"the base's config describes {size / 2**20:,.0f} MiB of parameters, where at most "
            f"{limit / 2**20:,.0f} MiB fit what was saved."
        )


def _auto_class(head: str) -> Any:
    import transformers

    auto = getattr(transformers, head, None) if head.startswith("AutoModel") else None
    if auto is None:
        heads = [key for key in dir(transformers) if key.startswith("AutoModel")]
        raise unknown(f"model.args.auto {head!r}", head, heads)
    return auto


def _config_of(config: Any, changes: Mapping[str, Any]) -> Any:
    import transformers

    if not isinstance(config, Mapping) or not isinstance(config.get("model_type"), str):
        raise ConfigError("model.args.config is no config of transformers: it has no model_type.")
    body = {k: _decoded(v) for k, v in config.items() if k not in ("model_type", "auto_map")}
    try:
        return transformers.AutoConfig.for_model(config["model_type"], **{**body, **changes})
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"model.args.config cannot be read: {error}") from None


def _read_config(name: str, changes: Mapping[str, Any], root: Path, download: bool) -> Any:
    import transformers

    place = root / name
    if not place.exists() and (name.startswith((".", "/")) or name.endswith(".json")):
        raise ModelError(f"hf:{name}: {place} does not exist.")
    where, offline = _where(name, root, download)
    try:
        return transformers.AutoConfig.from_pretrained(where, **offline, **changes)
    except OSError as error:
        raise ModelError(
            f"hf:{name} is neither a folder ({place}) nor in the local cache; nothing is fetched. "
            f"Download it first, or write model.allow_download: true. "
            f"({str(error).splitlines()[0]})"
        ) from None


def _where(name: str, root: Path, download: bool) -> tuple[Path | str, dict[str, Any]]:
    local = (root / name).exists()
    offline = {"local_files_only": local or not download, "trust_remote_code": False}
    return (root / name if local else name), offline


def _encoded(tree: Any) -> Any:
    """Return a config for JSON, which knows no infinity, the way transformers writes its own."""
    if isinstance(tree, float) and not math.isfinite(tree):
        name = "NaN" if math.isnan(tree) else "Infinity" if tree > 0 else "-Infinity"
        return {FLOAT: name}
    if isinstance(tree, Mapping):
        return {key: _encoded(value) for key, value in tree.items()}
    return [_encoded(value) for value in tree] if isinstance(tree, list | tuple) else tree


def _decoded(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        if tree.keys() == {FLOAT} and tree[FLOAT] in ("NaN", "Infinity", "-Infinity"):
            return float(tree[FLOAT])
        return {key: _decoded(value) for key, value in tree.items()}
    return [_decoded(value) for value in tree] if isinstance(tree, list) else tree


def _numbers(tree: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a config with the key it stands under."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _numbers(value, str(name))
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            yield from _numbers(value, key)
    elif isinstance(tree, (int, float)) and not isinstance(tree, bool):
        yield key, tree
