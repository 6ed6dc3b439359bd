"""What a network derives from its number of layers, brought in line after a cut.

Hugging Face models keep the number of layers, the type of each layer and the place of each
layer's cache in their config and modules. Left alone, cached decoding goes wrong without an
error, and `from_pretrained` creates the removed layers again.
"""

from __future__ import annotations

import re
from typing import Any

from torch import nn

COUNTS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers")
PER_LAYER = ("layer_types", "layers_block_type", "mlp_layer_types", "no_rope_layers")
DECODER_COUNTS = ("decoder_layers", "num_decoder_layers")
INDICES = ("layer_idx", "layer_index", "layer_id")


def follow_cut(model: nn.Module, removed: tuple[str, ...]) -> None:
    """Bring config fields and layer indices of `model` in line with what was removed, in place.

    Args:
        model: The network after the cut. Without a `config` of the Hugging Face kind only
            layer indices are renumbered.
        removed: Names of the removed units in the unpruned network.
    """
    gone: dict[str, set[int]] = {}
    for name in removed:
        path, _, last = name.rpartition(".")
        if last.isdigit():
            gone.setdefault(path, set()).add(int(last))
    for path, indices in gone.items():
        container = model.get_submodule(path)
        if not isinstance(container, nn.ModuleList | nn.Sequential):
            continue
        before = len(container) + len(indices)
        if any(
            f"{path}.{i}" in removed and i < len(container) and _skips(container[i])
            for i in indices
        ):  # pass-throughs stayed: nothing moved
            continue
        _renumber(container)
        for config in _configs(model):
            _shorten(config, path, before, indices)


def _skips(module: nn.Module) -> bool:
    return type(module).__name__ == "PassThrough"


def _renumber(container: nn.ModuleList | nn.Sequential) -> None:
    for index, layer in enumerate(container):
        for module in layer.modules():
            for name in INDICES:
                value = module.__dict__.get(name)
                if isinstance(value, int) and not isinstance(value, bool):
                    setattr(module, name, index)


def _configs(model: nn.Module) -> list[Any]:
    found: dict[int, Any] = {}
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "to_dict"):
            found[id(config)] = config
            for value in vars(config).values():
                if hasattr(value, "to_dict"):
                    found[id(value)] = value
    return list(found.values())


def _shorten(config: Any, path: str, before: int, gone: set[int]) -> None:
    left = before - len(gone)
    decoder = re.search(r"(^|\.)decoder(\.|$)", path) is not None
    names = DECODER_COUNTS if decoder and _has(config, DECODER_COUNTS) else COUNTS
    for name in names:
        if getattr(config, name, None) == before:
            setattr(config, name, left)
    for name in PER_LAYER:
        values = getattr(config, name, None)
        if isinstance(values, list) and len(values) == before:
            setattr(config, name, [v for i, v in enumerate(values) if i not in gone])


def _has(config: Any, names: tuple[str, ...]) -> bool:
    return any(getattr(config, name, None) is not None for name in names)
