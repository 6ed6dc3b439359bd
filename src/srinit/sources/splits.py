"""Which examples are for what: reproducible by content, and never in two sets at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from srinit.errors import ConfigError, DataError
from srinit.rng import seed_for
from srinit.sources.dataset import DataSet, Pool
from srinit.sources.kinds import KINDS
from srinit.sources.preprocess import Preprocess, preprocess_from

SPLITS = ("train", "calibration", "validation", "test")


def load_data(
    source: str,
    *,
    preprocess: Preprocess | None = None,
    classes: Sequence[str] | None = None,
    root: Path | None = None,
) -> DataSet:
    """Return the examples a source names, all of them, in the order of the source.

    Args:
        source: `folder:DIR` (one sub-folder a class), `csv:FILE` (path, label), `parquet:FILE`,
            `npz:FILE` or `py:FILE.py:FUNCTION`.
        preprocess: How images become inputs.
        classes: Class names in the order of the model's outputs; by default the source's own.
        root: Folder that relative paths start from.

    Raises:
        ConfigError: The source has no known prefix.
        DataError: It is missing, empty, or not what its prefix says.
    """
    kind, _, name = source.partition(":")
    if kind not in KINDS or not name:
        raise ConfigError(f"data source {source!r} does not begin with one of {sorted(KINDS)}.")
    examples, class_names = KINDS[kind](name, root or Path(), classes)
    pool = Pool(source, examples, class_names, preprocess or Preprocess())
    return DataSet(pool, tuple(range(len(examples.names))))


def split(data: DataSet, shares: Mapping[str, float], *, seed: int) -> dict[str, DataSet]:
    """Return disjoint parts of `data` of about the given shares.

    Where an example goes depends on its content and the seed alone: the same image is always on
    the same side, also when files are renamed, added or listed in another order.

    Raises:
        ConfigError: A share is not in (0, 1], or they add up to more than 1.
    """
    total = sum(shares.values())
    if any(not 0 < share <= 1 for share in shares.values()) or total > 1 + 1e-9:
        raise ConfigError(
            f"data.split: shares lie in (0, 1] and add up to at most 1, not {total:g}."
        )
    bounds, edge = [], 0.0
    for name in sorted(shares, key=SPLITS.index):
        bounds.append((name, edge, edge + shares[name]))
        edge += shares[name]
    chosen: dict[str, list[int]] = {name: [] for name, _, _ in bounds}
    for position, content in enumerate(data.ids):
        place = _place(content, seed)
        for name, low, high in bounds:
            if low <= place < high:
                chosen[name].append(position)
                break
    return {name: data.subset(positions) for name, positions in chosen.items()}


def limited(data: DataSet, count: int, *, seed: int) -> DataSet:
    """Return `count` examples drawn by content hash, in their old order."""
    if count >= len(data):
        return data
    order = sorted(range(len(data)), key=lambda i: (_place(data.ids[i], seed + 1), i))
    return data.subset(sorted(order[:count]))


def _place(content: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed_for('split', seed)} {content}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def load_splits(settings: Any, *, root: Path, seed: int) -> dict[str, DataSet]:
    """Return the data sets of a config's `data` section, by name; overlap is refused.

    Raises:
        ConfigError: The section names no data, or one set twice.
        DataError: A set is empty, or shares an image with another.
    """
    options: dict[str, Any] = {
        "preprocess": preprocess_from(settings.preprocess),
        "classes": settings.classes,
        "root": root,
    }
    found: dict[str, DataSet] = {}
    given = {name: getattr(settings, name) for name in SPLITS if getattr(settings, name)}
    if settings.source is None and not given:
        raise ConfigError(
            "data names no examples: write data.source and data.split, or data.test ..."
        )
    if settings.source is not None:
        if not settings.split:
            raise ConfigError("data.source needs data.split, e.g. {calibration: 0.4, test: 0.4}.")
        whole = load_data(settings.source, **options)
        found |= split(whole, settings.split, seed=seed)
    for name, source in given.items():
        if name in found:
            raise ConfigError(f"data.split has a share for {name}, and data.{name} names another.")
        found[name] = load_data(source, **options)
    found = {
        name: limited(found[name], settings.limit.get(name, len(found[name])), seed=seed)
        for name in SPLITS
        if name in found
    }
    for name, data in found.items():
        if len(data) == 0:
            raise DataError(f"no example is left for {name}; give it a larger share.")
    check_classes(found)
    check_overlap(found)
    return found


def check_classes(sets: Mapping[str, DataSet]) -> None:
    """Raise `DataError` unless all sets have the same classes in the same order."""
    first, *others = sets
    for other in others:
        if sets[other].class_names != sets[first].class_names:
            raise DataError(
                f"{other} has classes {list(sets[other].class_names)}, {first} has "
                f"{list(sets[first].class_names)}; write data.classes."
            )


def check_overlap(sets: Mapping[str, DataSet]) -> None:
    """Raise `DataError` where an image is in two sets; the first few are named."""
    for one, other in combinations(sets, 2):
        places = dict(zip(sets[one].ids, sets[one].names, strict=True))
        pairs = [
            f"{places[content]} = {name}"
            for content, name in zip(sets[other].ids, sets[other].names, strict=True)
            if content in places
        ]
        if pairs:
            raise DataError(
                f"{len(pairs)} images are both in {one} and in {other} "
                f"({'; '.join(pairs[:3])}); a figure measured on seen data means nothing. "
                "Remove them from one, or let data.split share out one source."
            )
