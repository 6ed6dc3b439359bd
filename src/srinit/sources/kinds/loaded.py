"""What every kind of source hands on, and how labels become class indices."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from srinit.errors import DataError, UnsafeError
from srinit.sources.examples import Examples

SHOWN = 20  # problems listed in one message


class Loaded(NamedTuple):
    """The examples of a source, its class names, and what the user should know about it."""

    examples: Examples
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def natural_key(path: Path | str) -> list[tuple[int, int | str]]:
    """Return a sort key under which img2 comes before img10.

    Example:
        >>> sorted(["img10", "img2"], key=natural_key)
        ['img2', 'img10']
    """
    parts = re.split(r"(\d+)", str(path).lower())
    return [
        (1, int(part)) if part.isascii() and part.isdigit() and len(part) < 100 else (0, part)
        for part in parts
    ]


def in_order(found: Iterable[str], classes: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """Return class names in the order of the model's outputs.

    Two orders are in use: plain sorting (torchvision's `ImageFolder`) and natural sorting (timm's).
    Where they differ the order must be said, since a wrong one goes unnoticed.

    Args:
        found: The names that the source has.
        classes: The order: a list of names, "alphabetical" or "natural"; None if both agree.
        where: The source, for messages.

    Raises:
        DataError: The two orders differ and none was chosen.

    Example:
        >>> in_order(["ok", "ng"], None, "parts")
        ('ng', 'ok')
    """
    plain, natural = sorted(set(found)), sorted(set(found), key=natural_key)
    if classes == "alphabetical" or (classes is None and plain == natural):
        return tuple(plain)
    if classes == "natural":
        return tuple(natural)
    if classes is not None:
        return tuple(classes)
    raise DataError(
        f"{where}: the order of the {len(plain)} classes is not clear. Write data.classes: "
        f"alphabetical ({', '.join(plain[:4])} ...; torchvision's ImageFolder) or data.classes: "
        f"natural ({', '.join(natural[:4])} ...; timm), as in training, or a list of names."
    )


def file_at(kind: str, name: str, root: Path) -> Path:
    """Return the absolute path of a source's file.

    Raises:
        DataError: There is none.
    """
    path = (root / name).absolute()
    if not is_file(path):
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataError(f"{kind}:{name}: the file {path} {what}.")
    return path


def is_file(path: Path) -> bool:
    """Return whether a path names a file; False also for names that no system allows."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def outside(base: Path, path: Path) -> bool:
    """Return whether `path` leads out of `base`, links followed."""
    return not path.resolve().is_relative_to(base.resolve())


def raise_outside(source: Path, found: Sequence[str]) -> None:
    """Raise `UnsafeError` where a source names files outside its own folder."""
    if found:
        raise UnsafeError(
            f"{source}: {len(found)} entries lead out of its folder, by '..', an absolute path or "
            f"a link; files outside are not read:\n{listing(found)}"
        )


def raise_unreadable_names(source: Path, names: Iterable[str]) -> None:
    """Raise `DataError` where names on the disk are no UTF-8: no report could hold them."""
    found = [name.encode("utf-8", "backslashreplace").decode() for name in names if _is_odd(name)]
    if found:
        raise DataError(
            f"{source}: {len(found)} names are not UTF-8; rename them (convmv does it for whole "
            f"folders, e.g. from cp932):\n{listing(found)}"
        )


def _is_odd(name: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in name)


def raise_problems(source: Path, problems: Sequence[str]) -> None:
    """Raise `DataError` with every problem of a source."""
    if problems:
        raise DataError(f"{source}: {len(problems)} problems:\n{listing(problems)}")


def listing(lines: Sequence[str]) -> str:
    """Return lines indented, at most `SHOWN` of them."""
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return "\n".join(f"  {line}" for line in [*lines[:SHOWN], *more])


def class_indices(
    labels: Sequence[Any],
    *,
    declared: Sequence[str] | None,
    classes: Sequence[str] | None,
    where: str,
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return class names and the index of every label.

    Args:
        labels: Indices into the declared names, or names.
        declared: Names that the source itself gives, in the order of its indices.
        classes: Names in the order of the model's outputs, as the user wants them; labels are
            renumbered to that order.
        where: The source, for messages.

    Raises:
        DataError: A label is missing or beyond the names, or the names do not match.

    Example:
        >>> names, index = class_indices(
        ...     [0, 1, 1], declared=["ng", "ok"], classes=["ok", "ng"], where="parts"
        ... )
        >>> names, index.tolist()
        (('ok', 'ng'), [1, 0, 0])
    """
    missing = [row for row, value in enumerate(labels) if value is None or value == ""]
    if missing:
        raise DataError(
            f"{where}: {len(missing)} rows have no label, the first is row {missing[0]}."
        )
    if all(isinstance(value, int | np.integer) for value in labels):
        return _from_indices(np.array(labels, dtype=np.int64), declared, classes, where)
    if any(isinstance(value, float) for value in labels):
        raise DataError(f"{where}: labels should be integers or names, found {labels[0]!r}.")
    texts = [str(value) for value in labels]
    names = in_order(texts, classes, where)
    place = {name: index for index, name in enumerate(names)}
    unknown = sorted(set(texts) - set(names), key=natural_key)
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=1, cutoff=0.6)
        raise DataError(
            f"{where}: labels {unknown[:5]} are not in data.classes {list(names)[:12]}"
            + (f"; did you mean {near[0]!r}?" if near else ".")
        )
    return names, np.array([place[text] for text in texts], dtype=np.int64)


def _from_indices(
    labels: npt.NDArray[np.int64],
    declared: Sequence[str] | None,
    classes: Sequence[str] | None,
    where: str,
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, -1)
    if low < 0:
        raise DataError(f"{where}: label {low} is negative; class indices start at 0.")
    given = None if isinstance(classes, str) else classes
    names = tuple(declared or given or (str(index) for index in range(min(high, 1 << 20) + 1)))
    if high >= len(names):
        raise DataError(
            f"{where}: label {high} is beyond the {len(names)} class names {list(names)[:12]}."
        )
    if classes is None or isinstance(classes, str) or tuple(classes) == names:
        return names, labels  # the indices themselves say the order
    if sorted(classes) != sorted(names):
        raise DataError(
            f"{where}: the {len(names)} classes {list(names)[:12]} are not the "
            f"{len(classes)} of data.classes {list(classes)[:12]}."
        )
    order = np.array([list(classes).index(name) for name in names], dtype=np.int64)
    return tuple(classes), order[labels]
