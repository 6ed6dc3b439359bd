"""What a network derives from its number of layers, brought in line after a cut.

Hugging Face models keep the number of layers, the type of each layer and the place of each
layer's cache in their config and modules. Left alone, cached decoding goes wrong without an
error, and `from_pretrained` creates the removed layers again. Which field of a config counts
which list is found by trying: a config with the field lowered must build a network of the
pruned network's form.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from srinit.rng import isolated_rng
from srinit.surgery.names import follow_names
from srinit.surgery.take import Cut, moved, stand_ins
from srinit.units.facts import within

INDICES = ("layer_idx", "layer_index", "layer_id", "layer_number", "block_idx")
FOLLOWING = (int, list, tuple)  # what a config may say of layers
OVERRIDES = "_heterogeneity_spec"  # where transformers keeps `per_layer_config`
MAX_TRIALS = 40


@dataclass(frozen=True, slots=True)
class Field:
    """One whole number in a config: an attribute, or an entry of a list attribute."""

    path: tuple[str, ...]  # sub-configs on the way
    name: str
    entry: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Takes the place of `save_pretrained` where no config describes the network."""

    reason: str

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Refuse.

        Raises:
            ValueError: Always; `srinit.save_pruned` saves such networks.
        """
        raise ValueError(
            f"save_pretrained would write a config that builds another network: {self.reason}. "
            "Save it with srinit.save_pruned(folder, model, plan, base=...)."
        )


def follow_cut(model: nn.Module, cuts: Mapping[str, Cut], removed: Sequence[str]) -> None:
    """Bring configs and layer indices of `model` in line with what was removed, in place.

    Args:
        model: The network after the cut.
        cuts: What was deleted, by the container's name before the cuts.
        removed: Names of the removed units before the cuts.
    """
    for path, cut in cuts.items():
        renumber(model.get_submodule(moved(path, cuts)), cut)
    follow_names(model, cuts)
    roots: list[str] = []
    for name, module in model.named_modules():
        if _has_config(module) and not any(within(name, root) for root in roots):
            roots.append(name)
    for root in roots:
        inside = {path: cut for path, cut in cuts.items() if within(moved(path, cuts), root)}
        touched = [name for name in removed if within(name, root)]
        if touched:
            _follow(model.get_submodule(root), root, cuts, inside, touched)


def renumber(container: nn.Module, cut: Cut) -> None:
    """Lower the layer indices inside a container by what was removed before each entry."""
    left = [index for index in range(cut.before) if index not in cut.gone]
    for now, (before, entry) in enumerate(zip(left, container.children(), strict=True)):
        for module in entry.modules():
            for name in INDICES:
                value = vars(module).get(name)
                if isinstance(value, int) and not isinstance(value, bool):
                    setattr(module, name, value - before + now)


def _has_config(module: nn.Module) -> bool:
    config = vars(module).get("config")
    return hasattr(config, "to_dict") and hasattr(type(module), "save_pretrained")


def _follow(
    root: nn.Module,
    name: str,
    cuts: Mapping[str, Cut],
    inside: Mapping[str, Cut],
    removed: Sequence[str],
) -> None:
    root.__dict__.pop("save_pretrained", None)
    config = copy.deepcopy(root.config)
    twin: nn.Module | None = None
    prefix = len(name) + 1 if name else 0
    for path, cut in inside.items():
        found = _lowered(root, config, moved(path, cuts)[prefix:], cut)
        if found is not None:
            config, twin = found
    if twin is not None:
        _adopt(root, twin, {(cut.before, cut.after) for cut in inside.values()})
    reason = _why_not(root, removed) if twin is None else _difference(root, twin)
    if twin is not None and not reason:
        reason = _changed_by_reading(twin)
    if reason:
        root.__dict__["save_pretrained"] = Refusal(reason)


def _lowered(root: nn.Module, config: Any, path: str, cut: Cut) -> tuple[Any, nn.Module] | None:
    """Return the config, and a network of it, whose list `path` has the pruned length."""
    fields = sorted(_fields(config, cut.before), key=lambda field: _likelihood(field, path))
    for field in fields[:MAX_TRIALS]:
        attempt = copy.deepcopy(config)
        _lower(attempt, field, cut)
        twin = _built(type(root), attempt)
        if twin is not None and _length(twin, path) == cut.after and _others_kept(root, twin, path):
            return attempt, twin
    return None


def _fields(
    config: Any, value: int, path: tuple[str, ...] = (), seen: frozenset[int] = frozenset()
) -> Iterator[Field]:
    """Yield the places in a config that hold a number of layers."""
    for name, found in vars(config).items():
        if isinstance(found, bool) or name.startswith("_"):
            continue
        if found == value and isinstance(found, int):
            yield Field(path, name)
        elif isinstance(found, list | tuple):
            for entry, part in enumerate(found):
                if part == value and isinstance(part, int) and not isinstance(part, bool):
                    yield Field(path, name, entry)
        elif hasattr(found, "to_dict") and id(found) not in seen:
            yield from _fields(found, value, (*path, name), seen | {id(found)})


def _likelihood(field: Field, path: str) -> tuple[bool, bool, str]:
    """Sort fields that speak of layers first, and of them those named like the list's place."""
    speaks = any(word in field.name for word in ("layer", "depth", "block"))
    sides = [side for side in ("encoder", "decoder") if side in path]
    like = any(side in field.name or side in "".join(field.path) for side in sides)
    return (not speaks, bool(sides) and not like, field.name)


def _lower(config: Any, field: Field, cut: Cut) -> None:
    """Set a field to the pruned number, and cut the lists beside it that have an entry a layer."""
    owner = config
    for step in field.path:
        owner = getattr(owner, step)
    body = vars(owner)
    if field.entry is None:
        body[field.name] = cut.after
        for name, value in list(body.items()):
            if isinstance(value, list | tuple) and len(value) == cut.before:
                kept = [part for index, part in enumerate(value) if index not in cut.gone]
                body[name] = type(value)(kept)
        _renumber_overrides(owner, cut)
    else:
        values = list(body[field.name])
        values[field.entry] = cut.after
        body[field.name] = type(body[field.name])(values)


def _renumber_overrides(config: Any, cut: Cut) -> None:
    """Let what a config says of single layers go with them (transformers' `per_layer_config`)."""
    overrides = getattr(vars(config).get(OVERRIDES), "per_layer_overrides", None)
    if overrides is None:
        return
    left = [index for index in range(cut.before) if index not in cut.gone]
    config.per_layer_config = {
        after: overrides[before] for after, before in enumerate(left) if before in overrides
    }


def _built(kind: type[nn.Module], config: Any) -> nn.Module | None:
    """Return a network of a config, without memory for its weights; None where it builds none."""
    for device in ("meta", "cpu"):
        try:
            with warnings.catch_warnings(), isolated_rng(0), torch.device(device):
                warnings.simplefilter("ignore")
                return kind(copy.deepcopy(config))
        except Exception:  # a config that makes no sense, or code that needs real tensors
            continue
    return None


def _length(model: nn.Module, path: str) -> int:
    try:
        return len(model.get_submodule(path)._modules)
    except AttributeError:
        return -1


def _others_kept(root: nn.Module, twin: nn.Module, path: str) -> bool:
    """Tell whether lists beside the one that was cut are not shorter than they should be."""
    for name, module in root.named_modules():
        if isinstance(module, nn.ModuleList) and name != path and not within(name, path):
            there = _length(twin, name)
            if 0 <= there < len(module):
                return False
    return True


def _adopt(root: nn.Module, twin: nn.Module, counts: set[tuple[int, int]]) -> None:
    """Take the twin's configs, layer indices and numbers of layers over."""
    ours: dict[int, Any] = {}
    for name, module in twin.named_modules():
        try:
            real = root.get_submodule(name)
        except AttributeError:
            continue
        for key, value in vars(module).items():
            mine = vars(real).get(key)
            if hasattr(value, "to_dict") and mine is not None and id(mine) not in ours:
                ours[id(mine)] = mine
                _update(mine, value)
            elif isinstance(value, int) and (key in INDICES or (mine, value) in counts):
                setattr(real, key, value)


def _update(config: Any, new: Any) -> None:
    for key, value in vars(new).items():
        old = vars(config).get(key)
        if hasattr(value, "to_dict") and hasattr(old, "to_dict"):
            _update(old, value)
        elif key == OVERRIDES or (isinstance(value, FOLLOWING) and not key.startswith("_")):
            vars(config)[key] = copy.deepcopy(value)


def _difference(root: nn.Module, twin: nn.Module) -> str:
    """Return how a network built from the config differs from the pruned one; "" if it does not."""
    one = {key: tuple(value.shape) for key, value in root.state_dict().items()}
    other = {key: tuple(value.shape) for key, value in twin.state_dict().items()}
    odd = sorted(one.items() ^ other.items())
    if odd:
        return f"no config gives these layers ({odd[0][0]} differs)"
    for name, module in twin.named_modules():
        real = root.get_submodule(name)
        if {type(real), type(module)} & {nn.Identity} and _is_depth(real, module):
            continue  # the rate of stochastic depth follows the place; it acts in training only
        if type(real) is not type(module):
            return f"{name} is a {type(real).__name__}"
        for key, value in vars(module).items():
            mine = vars(real).get(key, value)
            told = isinstance(value, str | int | tuple | list) and key != "training"
            if told and _is_plain(value) and _is_plain(mine) and mine != value:
                return f"{name}.{key} would become {value!r}, it is {mine!r}"
    return ""


def _is_plain(value: Any) -> bool:
    """Tell whether a value can be compared: no tensors, of which the twin's have no values."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _changed_by_reading(twin: nn.Module) -> str:
    """Return how a network differs from one whose config was written and read; "" if it does not.

    Some configs correct what they are given, the type of the last layer for example.
    """
    config: Any = twin.config
    if not hasattr(config, "to_json_string") or not hasattr(type(config), "from_dict"):
        return ""
    try:
        again: Any = type(config).from_dict(json.loads(config.to_json_string()))
        if hasattr(config, "_attn_implementation"):  # not of the file, but of the load
            again._attn_implementation = config._attn_implementation
    except Exception as error:  # whatever a config of somebody's raises on values of ours
        return f"its config cannot be read again ({type(error).__name__}: {str(error)[:200]})"
    other = _built(type(twin), again)
    return "no network can be built from its config" if other is None else _difference(twin, other)


def _is_depth(*modules: nn.Module) -> bool:
    names = {type(module).__name__.lower() for module in modules} - {"identity"}
    return all("droppath" in name or "stochasticdepth" in name for name in names)


def _why_not(root: nn.Module, removed: Sequence[str]) -> str:
    if stand_ins(root):
        return f"{stand_ins(root)[0]} is passed through, and configs know whole layers only"
    return f"no field of {type(root.config).__name__} takes {removed[0]} out"
