"""Models of transformers: from a local folder, the local cache, or a config that is given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srinit.errors import ConfigError, require
from srinit.networks.hugging_face_class import build, model_class
from srinit.networks.hugging_face_config import (
    check_numbers,
    config_of,
    encoded,
    location,
    read_config,
)
from srinit.networks.hugging_face_gguf import gguf_class, gguf_file, plain_weights
from srinit.networks.hugging_face_weights import check_folder, check_loaded
from srinit.networks.request import ModelRequest


def hugging_face_model(request: ModelRequest) -> nn.Module:
    """Return a model of transformers from a local folder, config file or cache.

    Code that lies in the folder is never run. The class is the one that the config names
    (`architectures`), or `args.auto`: an Auto class such as AutoModelForImageClassification, or a
    class of transformers. `args.config` is a whole config, with which no folder is needed; the
    other arguments change the config.

    All weights come from the folder's safetensors; where the request says that they come from
    elsewhere (`model.weights`), the folder's are not read. A config file alone, or `args.config`,
    gives a network that is not trained. A GGUF file (`hf:FOLDER/FILE.gguf`, or a folder that holds
    one and no safetensors) is converted by transformers; its weights become float32.

    Raises:
        ConfigError: There is no such class, or the config is not one.
        ModelError: There is no such folder.
        CheckpointError: Weights are missing, or do not fit.
        UnsafeError: They are pickled, or the config names code.
    """
    name, args = request.name, dict(request.args)
    require("transformers", "hf", f"for hf:{name}")
    auto = args.pop("auto", None)
    where = f"hf:{name}"
    if "config" in args:
        config = config_of(args.pop("config"), args)
        return build(model_class(config, auto, "model.args.config"), config)
    place = request.root / name
    config = read_config(name, args, request.root, request.download)
    packed = gguf_file(place)
    kind = gguf_class(config, auto, where) if packed else model_class(config, auto, where)
    if request.bare or (place.is_file() and not packed):
        if not request.bare:
            request.note(f"{where} is a config alone: the network is not trained")
        return build(kind, config)
    if place.is_dir() and not packed:
        check_folder(place, where)
    origin, offline = location(name, request.root, request.download)
    model, info = kind.from_pretrained(
        origin, config=config, use_safetensors=True, output_loading_info=True,
        ignore_mismatched_sizes=True, **offline,
    )  # fmt: skip
    check_loaded(model, info, where, chosen=auto is not None, on_note=request.note)
    if packed:
        plain_weights(model)
        request.note(f"{where}: the weights of {packed.name} were converted to {model.dtype}")
    found: nn.Module = model
    return found


def self_contained(
    args: Mapping[str, Any], name: str, root: Path, *, download: bool = False
) -> dict[str, Any]:
    """Return arguments from which the same architecture is built without the folder `name`.

    Args:
        args: As for `hugging_face_model`.
        name: Folder, config file or name in the local cache.
        root: Folder that a relative path starts from.
        download: Let transformers fetch the config.

    Raises:
        ModelError: There is no such folder.
        ConfigError: The config names no class, and `args.auto` neither.
    """
    changes = {key: value for key, value in args.items() if key not in ("auto", "config")}
    auto = args.get("auto")
    if "config" in args:
        config = config_of(args["config"], changes)
    else:
        config = read_config(name, changes, root, download)
    if auto is None and "config" not in args and gguf_file(root / name):
        auto = gguf_class(config, None, f"hf:{name}").__name__
    elif auto is None:
        auto = model_class(config, None, f"hf:{name}").__name__
    return {"auto": str(auto), "config": encoded(config.to_dict())}


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
    check_numbers(config)
    made = config_of(config, {})
    kind = model_class(made, args.get("auto"), "the base's config")
    with torch.device("meta"):
        model = build(kind, made)
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    if size > limit:
        raise ConfigError(
            f"the base's config describes {size / 2**20:,.0f} MiB of parameters, where at most "
            f"{limit / 2**20:,.0f} MiB fit what was saved."
        )
