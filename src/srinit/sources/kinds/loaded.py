"""What every kind of source hands on, and how labels become class indices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from srinit.class_names import (
    canonical,
    check_distinct,
    in_order,
    natural_key,
    nearest,
    origin,
    spelled,
)
from srinit.errors import DataError, UnsafeError
from srinit.sources.examples import Examples

SHOWN = 20  # problems listed in one message


class Loaded(NamedTuple):
    """The examples of a source, its class names, and what the user should know about it."""

    examples: Examples
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


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
    unknown = sorted(set(map(canonical, texts)) - set(names), key=natural_key)
    if unknown:
        raise DataError(
            f"{where}: labels {unknown[:5]} are not in {origin(classes)} {list(names)[:12]}"
            f"{nearest(unknown[0], names) or '.'}"
        )
    return names, np.array([place[canonical(text)] for text in texts], dtype=np.int64)


def _from_indices(
    labels: npt.NDArray[np.int64],
    declared: Sequence[str] | None,
    classes: Sequence[str] | None,
    where: str,
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, -1)
    if low < 0:
        raise DataError(f"{where}: label {low} is negative; class indices start at 0.")
    given = None if classes is None or isinstance(classes, str) else tuple(map(canonical, classes))
    numbers = (str(index) for index in range(min(high, 1 << 20) + 1))
    names = tuple(map(canonical, declared or given or numbers))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{where}: the class name {spelled(twice)} stands for two indices.")
    check_distinct(names, where, given)
    if high >= len(names):
        raise DataError(
            f"{where}: label {high} is beyond the {len(names)} class names {list(names)[:12]}."
        )
    if given is None or given == names:
        return names, labels  # the indices themselves say the order
    if sorted(given) != sorted(names):
        absent = [name for name in given if name not in names]
        raise DataError(
            f"{where}: the {len(names)} classes {list(names)[:12]} are not the "
            f"{len(given)} of {origin(classes)} {list(given)[:12]}"
            f"{nearest(absent[0], names) if absent else '.'}"
        )
    order = np.array([given.index(name) for name in names], dtype=np.int64)
    return given, order[labels]
