"""What a network derives from its number of layers, brought in line after a cut.

Hugging Face models keep the number of layers, the type of each layer and the place of each
layer's cache in their config and modules. Left alone, cached decoding goes wrong without an
error, and `from_pretrained` creates the removed layers again. What the config has to say is found
by trying: it must build a network of the pruned network's form, also once it was written and read.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from srinit.recording import within
from srinit.surgery.config_search import ConfigSearch, Trial
from srinit.surgery.config_twin import INDICES, built, is_followed, read_from_disk
from srinit.surgery.names import follow_names
from srinit.surgery.replace import Cut, moved, stand_ins

OVERRIDES = "_heterogeneity_spec"  # where transformers keeps `per_layer_config`


@dataclass(frozen=True, slots=True)
class Refusal:
    """Takes the place of `save_pretrained` where no config describes the network."""

    reason: str

    def __call__(self, *args: object, **kwargs: object) -> None:
        """Refuse.

        Raises:
            ValueError: Always; `srinit.save_pruned` saves such networks.
        """
        raise ValueError(
            f"save_pretrained would write a config that builds another network: {self.reason}. "
            "Save it with srinit.save_pruned(folder, model, plan, base=...)."
        )


def why_not_saved(model: nn.Module) -> str:
    """Return why no config of transformers describes a network after a cut; "" if one does.

    Example:
        >>> why_not_saved(nn.Linear(2, 2))
        ''
    """
    found = vars(model).get("save_pretrained")
    return found.reason if isinstance(found, Refusal) else ""


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
    prefix = len(name) + 1 if name else 0
    search = ConfigSearch(root, {moved(path, cuts)[prefix:]: cut for path, cut in inside.items()})
    found = search.find(thorough=not stand_ins(root))
    if found is None:
        reason = _why_not(root, removed, search.trials)
    else:
        _adopt(root, found)
        reason = _reason(root, found, search)
    if reason:
        root.__dict__["save_pretrained"] = Refusal(reason)


def _why_not(root: nn.Module, removed: Sequence[str], trials: int) -> str:
    if stand_ins(root):
        return f"{stand_ins(root)[0]} is passed through, and configs know whole layers only"
    tried = f"; {trials} were tried" if trials else ""
    return f"no field of {type(root.config).__name__} was found that takes {removed[0]} out{tried}"


def _reason(root: nn.Module, found: Trial, search: ConfigSearch) -> str:
    """Return why a config may not be written; "" if it builds the pruned network."""
    problems = search.compare(found.twin, found.pairs)
    if stand_ins(root):
        return _why_not(root, (), 0)
    if problems:
        return f"of {search.trials} configs that were tried none gives these layers ({problems[0]})"
    try:
        again = read_from_disk(root.config)
    except Exception as error:  # whatever a config of somebody's raises on values of ours
        return f"its config cannot be read again ({type(error).__name__}: {str(error)[:200]})"
    other = built(type(root), again)
    if other is None:
        return "no network can be built from its config once it was written and read"
    changed = search.compare(other, found.pairs)
    return f"{changed[0]} once the config was written and read" if changed else ""


def _adopt(root: nn.Module, found: Trial) -> None:
    """Take the twin's configs, layer indices and what modules keep of the config over."""
    changed = {name for name, _, _ in found.changes}
    ours: set[int] = set()
    real_modules = dict(root.named_modules())
    for name, module in found.twin.named_modules():
        real = real_modules.get(name)
        if real is None:
            continue
        for key, value in vars(module).items():
            mine = vars(real).get(key)
            if hasattr(value, "to_dict") and hasattr(mine, "to_dict") and id(mine) not in ours:
                ours.add(id(mine))
                _update(mine, value, changed, found.pairs)
            elif (isinstance(value, int) and key in INDICES) or (
                isinstance(value, int | str | list | tuple)
                and is_followed(key, mine, value, found.pairs)
            ):
                setattr(real, key, copy.deepcopy(value))


def _update(
    config: object, new: object, changed: set[str], pairs: Sequence[tuple[Any, Any]]
) -> None:
    for key, value in vars(new).items():
        old = vars(config).get(key)
        if hasattr(value, "to_dict") and hasattr(old, "to_dict"):
            _update(old, value, changed, pairs)
        elif key == OVERRIDES or key in changed or (old, value) in pairs:
            vars(config)[key] = copy.deepcopy(value)
