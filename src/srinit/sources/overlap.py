"""What is wrong or noteworthy about data sets taken together: overlap, conflicts, counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from srinit.errors import DataError
from srinit.sources.dataset import DataSet

SHOWN = 3  # pairs named in one message


def check_overlap(sets: Mapping[str, DataSet], *, allowed: Sequence[tuple[str, str]] = ()) -> None:
    """Raise where an image is in two sets; every pair of sets is named, with the first images.

    Images are equal when their files are equal, byte by byte; a picture that was saved anew is
    another one.

    Args:
        sets: Data sets by name.
        allowed: Pairs of names that may overlap.

    Raises:
        DataError: An example is in two sets.
    """
    problems = []
    ids = {name: data.ids for name, data in sets.items()}
    for one, other in combinations(sets, 2):
        common = set(ids[one]) & set(ids[other])
        if common and (one, other) not in allowed and (other, one) not in allowed:
            problems.append(
                f"  {len(common)} are both in {one} and in {other}: "
                + "; ".join(_pairs(sets[one], sets[other], common))
            )
    if problems:
        raise DataError(
            f"the data sets share {_noun(sets)}, and a figure measured on seen data means "
            "nothing:\n"
            + "\n".join(problems)
            + "\nRemove them from one of the two, or let data.split share out one source."
        )


def _noun(sets: Mapping[str, DataSet]) -> str:
    images = any(data.pool.holds_images for data in sets.values())
    return "images" if images else "examples"


def _pairs(one: DataSet, other: DataSet, common: set[str]) -> list[str]:
    names = dict(zip(one.ids, one.names, strict=True))
    both = zip(other.ids, other.names, strict=True)
    pairs = [f"{names[content]} = {name}" for content, name in both if content in common]
    return pairs[:SHOWN] + (["..."] if len(pairs) > SHOWN else [])


def describe(sets: Mapping[str, DataSet]) -> list[str]:
    """Return what a reader should know about the data, in sentences: counts, gaps, conflicts.

    Counts per class of every set; classes that a set lacks; equal images with different labels;
    what the sources left out.
    """
    lines: list[str] = []
    for name, data in sets.items():
        unlabeled = data.targets.ndim == 1 and bool((data.targets < 0).all())
        counts = {} if unlabeled else data.class_counts
        shown = ", ".join(f"{key} {count}" for key, count in list(counts.items())[:12])
        lines.append(f"{name}: {len(data)} examples" + (f" ({shown})" if shown else "")
                     + (", unlabeled" if unlabeled else ""))  # fmt: skip
        absent = [key for key, count in counts.items() if count == 0]
        if absent:
            lines.append(f"{name} has no example of {', '.join(absent[:12])}")
        lines += _conflicts(name, data)
    lines += _shared_out(sets)
    notes = dict.fromkeys(note for data in sets.values() for note in data.pool.notes)
    return lines + list(notes)


def _shared_out(sets: Mapping[str, DataSet]) -> list[str]:
    """Return a sentence for every source that several sets are parts of."""
    parts: dict[int, list[str]] = {}
    for name, data in sets.items():
        parts.setdefault(id(data.pool), []).append(name)
    return [
        f"{sets[names[0]].pool.source} is shared out to {', '.join(names)}: by content hash, the "
        "same share of every class to one image, equal images together"
        for names in parts.values()
        if len(names) > 1 and not _is_drawn(sets, names)
    ]


def _is_drawn(sets: Mapping[str, DataSet], names: Sequence[str]) -> bool:
    """Whether the sets share examples: one was drawn out of another."""
    seen: set[int] = set()
    for name in names:
        if seen & set(sets[name].indices):
            return True
        seen |= set(sets[name].indices)
    return False


def _conflicts(name: str, data: DataSet) -> list[str]:
    """Return a sentence if equal images carry different labels."""
    if data.targets.ndim != 1:
        return []
    seen: dict[str, tuple[int, str]] = {}
    pairs = []
    for content, target, title in zip(data.ids, data.targets.tolist(), data.names, strict=True):
        known, first = seen.setdefault(content, (target, title))
        if known != target:
            pairs.append(f"{first} and {title}")
    if not pairs:
        return []
    return [
        f"{name}: {len(pairs)} equal images have different labels, for example {pairs[0]}; "
        "one of the labels is wrong"
    ]
