"""CSV files that list images and their labels."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from srinit.errors import DataError
from srinit.sources.examples import ImageFiles
from srinit.sources.kinds.loaded import (
    Loaded,
    class_indices,
    file_at,
    is_file,
    outside,
    raise_outside,
    raise_problems,
)

MAX_BYTES = 256 << 20


def table(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return the images a CSV file lists, with columns `path` and `label`, in its order.

    Paths are relative to the file's folder and may not leave it.

    Raises:
        DataError: No UTF-8 CSV file, columns missing, files that do not exist (all of them are
            listed), labels that are not in `classes`.
        UnsafeError: A path leads out of the folder.
    """
    file = file_at("csv", name, root)
    rows = _rows(file)
    paths, labels, problems, escaped = [], [], [], []
    for number, row in enumerate(rows, start=2):
        text = row.get("path") or ""
        path = _path(file.parent, text)
        if not text or path is None:
            problems.append(f"line {number}: there is no file {text[:200]!r}")
        elif outside(file.parent, path):
            escaped.append(f"line {number}: {text[:200]}")
        else:
            paths.append(os.path.relpath(path, file.parent))
            labels.append(row.get("label") or "")
    raise_outside(file, escaped)
    raise_problems(file, problems)
    if not paths:
        raise DataError(f"{file} lists no image.")
    names, targets = class_indices(labels, declared=None, classes=classes, where=str(file))
    return Loaded(ImageFiles(file.parent, paths, targets), names)


def _rows(file: Path) -> list[dict[str, Any]]:
    if file.stat().st_size > MAX_BYTES:
        raise DataError(f"{file} is larger than {MAX_BYTES:,} bytes; that is no list of images.")
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            columns = reader.fieldnames or ()
            rows = list(reader)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not UTF-8 (byte {error.start}); save it as 'CSV UTF-8'."
        ) from None
    except csv.Error as error:
        raise DataError(f"{file} is no CSV file: {error}.") from None
    if "path" not in columns or "label" not in columns:
        raise DataError(
            f"{file} should begin with a line that names the columns path and label, "
            f"found {list(columns)[:12]}."
        )
    return rows


def _path(base: Path, text: str) -> Path | None:
    """Return the file a cell names, also when it was written on Windows."""
    for written in (text, PureWindowsPath(text).as_posix()):
        if is_file(base / written):
            return base / written
    return None
