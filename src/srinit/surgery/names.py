"""What a network says of its own parts, by name and by number, brought in line after a cut.

timm lists the parts that features are taken from (`feature_info`), torchvision those that it
returns (`return_layers`), and many networks keep how many blocks they have.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from torch import nn

from srinit.recording import within
from srinit.surgery.replace import Cut, moved

COUNTS = ("depth", "num_layers", "n_layers", "num_blocks", "n_blocks", "num_hidden_layers")
LISTS = ("depths", "num_layers", "n_layers", "num_blocks", "n_blocks", "layers")


def follow_names(model: nn.Module, cuts: Mapping[str, Cut]) -> None:
    """Let what modules keep about their parts follow a cut, in place; new lists replace old ones.

    A name of a removed part gives way to that of the part before it, unless that is listed as
    well: then its entry goes.

    Args:
        model: The network after the cut.
        cuts: What was deleted, by the container's name before the cuts.
    """
    for path, module in model.named_modules():
        below = _below(path, cuts)
        if not below:
            continue
        for key, value in list(vars(module).items()):
            if key.startswith("_") or key == "training":
                continue
            new = _followed(key, value, _Names(module, below))
            if new is not value:
                vars(module)[key] = new


def _below(path: str, cuts: Mapping[str, Cut]) -> dict[str, Cut]:
    """Return the cuts inside of a module, by names relative to it."""
    depth = path.count(".") + 1 if path else 0
    inside = {old: cut for old, cut in cuts.items() if within(moved(old, cuts), path) or not path}
    return {".".join(old.split(".")[depth:]): cut for old, cut in inside.items()}


class _Names:
    """The names of a module's parts, before and after a cut."""

    def __init__(self, module: nn.Module, cuts: Mapping[str, Cut]) -> None:
        self.module, self.cuts = module, cuts

    def now(self, name: str, listed: Collection[str]) -> str | None:
        """Return what a part is called now; None: it is gone, and nothing takes its place."""
        parts = name.split(".")
        for depth, part in enumerate(parts):
            cut = self.cuts.get(".".join(parts[:depth]))
            if cut is None or not part.isdigit() or int(part) not in cut.gone:
                continue
            left = [index for index in range(int(part)) if index not in cut.gone]
            if not left:
                return None
            other = ".".join([*parts[:depth], str(left[-1]), *parts[depth + 1 :]])
            there = other not in listed and self._is_there(moved(other, self.cuts))
            return moved(other, self.cuts) if there else None
        return moved(name, self.cuts)

    def is_name(self, text: object) -> bool:
        """Tell whether a value names something inside of what was cut."""
        if not isinstance(text, str):
            return False
        inside = (path for path in self.cuts if path and text.startswith(f"{path}."))
        return any(text[len(path) + 1 :].partition(".")[0].isdigit() for path in inside)

    def _is_there(self, name: str) -> bool:
        try:
            self.module.get_submodule(name)
        except AttributeError:
            return False
        return True


def _followed(key: str, value: object, names: _Names) -> Any:
    """Return the value of an attribute after the cut; the same object if it says nothing of it."""
    if isinstance(value, int) and not isinstance(value, bool):
        own = [cut for path, cut in names.cuts.items() if path and "." not in path]
        fits = key in COUNTS and len(own) == 1 and value == own[0].before
        return own[0].after if fits and not _others(names, own[0].before) else value
    if isinstance(value, Mapping):
        return _mapping(value, names) if type(value) is dict else value
    if isinstance(value, list | tuple) and value and not hasattr(value, "_fields"):
        if all(type(part) is int for part in value):
            return type(value)(_numbers(key, value, names))
        listed = list(_listed(value, names))
        return type(value)(p for _, p in _entries(value, names, listed)) if listed else value
    if isinstance(getattr(value, "info", None), list) and hasattr(value, "out_indices"):
        return _feature_info(value, names)
    return value


def _others(names: _Names, count: int) -> bool:
    """Tell whether other lists of the module had the same number of entries."""
    others = (child for key, child in names.module.named_children() if key not in names.cuts)
    return any(isinstance(child, nn.ModuleList) and len(child) == count for child in others)


def _listed(value: Sequence[Any], names: _Names) -> Iterator[str]:
    for part in value:
        texts = part.values() if isinstance(part, dict) else [part]
        yield from (text for text in texts if names.is_name(text))


def _entries(
    value: Sequence[Any], names: _Names, listed: Collection[str]
) -> Iterator[tuple[int, Any]]:
    """Yield the entries of a list that stay, with their places before."""
    for place, part in enumerate(value):
        if isinstance(part, dict):
            new = {k: names.now(v, listed) if names.is_name(v) else v for k, v in part.items()}
            if all(new[k] is not None or v is None for k, v in part.items()):
                yield place, new
        elif not names.is_name(part):
            yield place, part
        elif (name := names.now(part, listed)) is not None:
            yield place, name


def _mapping(value: dict[Any, Any], names: _Names) -> dict[Any, Any]:
    listed = [text for pair in value.items() for text in pair if names.is_name(text)]
    if not listed:
        return value
    new = {}
    for pair in value.items():
        key, part = (names.now(x, listed) if names.is_name(x) else x for x in pair)
        if key is not None and (part is not None or pair[1] is None):
            new[key] = part
    return new


def _numbers(key: str, value: Sequence[int], names: _Names) -> list[int]:
    """Return numbers of blocks by stage, or the stages that features end with (timm)."""
    new = list(value)
    for path, cut in names.cuts.items():
        places = [int(part) for part in path.split(".") if part.isdigit()]
        if key == "stage_ends" and path in ("blocks", "stages"):
            new = [sum(index not in cut.gone for index in range(end)) for end in new]
        elif key in LISTS and len(places) == 1 and new[places[0] :][:1] == [cut.before]:
            new[places[0]] = cut.after
    return new


def _feature_info(value: Any, names: _Names) -> Any:
    """Return timm's `FeatureInfo` after the cut, with places counted anew."""
    kept = list(_entries(value.info, names, list(_listed(value.info, names))))
    new = copy.copy(value)
    new.info = [
        {**part, "index": i} if "index" in part else part for i, (_, part) in enumerate(kept)
    ]
    places = {before: after for after, (before, _) in enumerate(kept)}
    new.out_indices = tuple(places[i] for i in value.out_indices if i in places)
    return new
