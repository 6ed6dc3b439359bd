"""The network that a config builds, and how it differs from the pruned one."""

from __future__ import annotations

import copy
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from srinit.networks import decoded
from srinit.rng import isolated_rng

INDICES = ("layer_idx", "layer_index", "layer_id", "layer_number", "block_idx")
UNTOLD = ("training",)
IMPLEMENTATIONS = ("_attn_implementation", "_experts_implementation")  # these as well

Body = dict[str, Any]
Pair = tuple[Any, Any]


def body_of(config: Any) -> Body:
    """Return what a config's file holds."""
    text = config.to_json_string() if hasattr(config, "to_json_string") else None
    body: Body = decoded(json.loads(text)) if text else copy.deepcopy(config.to_dict())
    return body


def read(config: Any, body: Body) -> Any:
    """Return the config that a file with `body` is read as; some correct what they are given."""
    if hasattr(type(config), "from_dict"):
        return _like(config, type(config).from_dict(copy.deepcopy(body)))
    again = copy.deepcopy(config)
    vars(again).update({k: v for k, v in copy.deepcopy(body).items() if k in vars(again)})
    return again


def read_from_disk(config: Any) -> Any:
    """Return a config written to a folder and read again, the way users do."""
    if not hasattr(config, "save_pretrained") or not hasattr(type(config), "from_pretrained"):
        return read(config, body_of(config))
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        return _like(config, type(config).from_pretrained(folder))


def _like(config: object, again: object) -> Any:
    for name in IMPLEMENTATIONS:
        if hasattr(config, name):
            setattr(again, name, getattr(config, name))
    for key, value in vars(config).items():
        if hasattr(value, "to_dict") and hasattr(vars(again).get(key), "to_dict"):
            _like(value, vars(again)[key])
    return again


def built(kind: type[nn.Module], config: object) -> nn.Module | None:
    """Return a network of a config, without memory for its weights; None where it builds none."""
    for device in ("meta", "cpu"):
        try:
            with warnings.catch_warnings(), isolated_rng(0), torch.device(device):
                warnings.simplefilter("ignore")
                return kind(copy.deepcopy(config))
        except Exception:  # a config that makes no sense, or code that needs real tensors
            continue
    return None


def followed(old: object, new: object) -> list[tuple[str, Any, Any]]:
    """Return what two readings of a config differ in: names, old and new values."""
    found = []
    for key, value in vars(new).items():
        before = vars(old).get(key)
        if hasattr(value, "to_dict") and hasattr(before, "to_dict"):
            found += followed(before, value)
        elif _plain(value) and _plain(before) and before != value:
            found.append((key, before, value))
    return found


def differences(
    root: nn.Module, twin: nn.Module, pairs: list[Pair], built_as: Mapping[str, nn.Module]
) -> list[str]:
    """Return how a network built from a config differs from the pruned one, one text each.

    Args:
        root: The pruned network.
        twin: What the config builds; may lie on the meta device.
        pairs: Old and new values of the config, which modules may keep as well.
        built_as: By the name in `root`, the module that the unpruned config builds. What is not
            as it was built came with loading or running, and no config has ever held it.
    """
    one, other = _shapes(root), _shapes(twin)
    kept = root.state_dict().keys()
    for name in [name for name in one if name not in kept and name not in other]:
        del one[name]  # computed at construction for a kind of layer that is gone
    found = [f"{name} differs" for name, _ in sorted(one.items() ^ other.items())]
    mine = dict(root.named_modules())
    for name, module in twin.named_modules():
        real = mine.pop(name, None)
        if real is None:
            found.append(f"{name} is missing")
        elif {type(real), type(module)} & {nn.Identity} and _is_depth(real, module):
            continue  # the rate of stochastic depth follows the place; it acts in training only
        elif type_before_parametrizations(real) is not type_before_parametrizations(module):
            found.append(f"{name} is a {type(real).__name__}")
        else:
            told = _told(real, module, pairs, built_as.get(name, real))
            found += [f"{name}.{k} would become {v!r}, it is {w!r}" for k, v, w in told]
    return found + [f"{name} is missing" for name in mine]


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    tensors = {**dict(model.named_buffers()), **model.state_dict()}
    return {name: tuple(value.shape) for name, value in tensors.items() if hasattr(value, "shape")}


def _told(
    real: nn.Module, module: nn.Module, pairs: list[Pair], before: nn.Module
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the plain attributes in which a module and its twin differ."""
    for key, value in vars(module).items():
        mine = vars(real).get(key, value)
        if key in UNTOLD or "drop" in key or (key in INDICES and isinstance(value, int)):
            continue
        told = isinstance(value, str | int | float | tuple | list)
        same = mine == value if _plain(value) and _plain(mine) else True
        if told and not same and not is_followed(key, mine, value, pairs):
            if _plain(first := vars(before).get(key, mine)) and first != mine:
                continue
            yield key, value, mine


def is_followed(key: str, old: object, new: object, pairs: list[Pair]) -> bool:
    """Tell whether an attribute keeps what the config says, or where another layer stands."""
    if isinstance(old, bool) or old is None:
        return False
    if ("idx" in key or "index" in key) and isinstance(old, int) and isinstance(new, int):
        return True
    return (old, new) in pairs or any(_kinds(old, new, *pair) for pair in pairs)


def _kinds(old: Any, new: Any, before: Any, after: Any) -> bool:
    """Tell whether lists hold the kinds, each once, of what the config lists layer by layer."""
    if not all(isinstance(each, list) for each in (old, new, before, after)):
        return False
    if not all(isinstance(entry, str) for entry in (*old, *new, *before, *after)):
        return False
    once = len(set(old)) == len(old) and len(set(new)) == len(new)
    return once and set(old) == set(before) and set(new) == set(after)


def _plain(value: object) -> bool:
    """Tell whether a value can be compared: no tensors, of which the twin's have no values."""
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    if isinstance(value, Mapping):
        return all(map(_plain, value.values()))
    return value is None or isinstance(value, str | int | float)


def _is_depth(*modules: nn.Module) -> bool:
    names = {type(module).__name__.lower() for module in modules} - {"identity"}
    return all("droppath" in name or "stochasticdepth" in name for name in names)
