"""The kinds of data sources: image folders, tables, parquet files, arrays, own functions."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from srinit.errors import DataError, require
from srinit.sources.dataset import Examples, natural_key, open_image
from srinit.sources.models import load_function

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})


@dataclass(frozen=True)
class ImageFiles:
    """Images in files."""

    root: Path
    names: Sequence[str]  # relative to the root
    targets: npt.NDArray[np.int64]

    def content(self, index: int) -> bytes:
        """Return the bytes of the file."""
        return (self.root / self.names[index]).read_bytes()

    def image(self, index: int) -> Image.Image:
        """Return the decoded image."""
        return open_image(self.content(index))


@dataclass(frozen=True)
class EncodedImages:
    """Encoded images held in memory."""

    encoded: Sequence[bytes]
    names: Sequence[str]
    targets: npt.NDArray[np.int64]

    def content(self, index: int) -> bytes:
        """Return the encoded bytes."""
        return self.encoded[index]

    def image(self, index: int) -> Image.Image:
        """Return the decoded image."""
        return open_image(self.encoded[index])


@dataclass(frozen=True)
class PixelArrays:
    """Images as bytes in one array (N, H, W) or (N, H, W, C)."""

    array: npt.NDArray[np.uint8]
    names: Sequence[str]
    targets: npt.NDArray[np.int64]

    def content(self, index: int) -> bytes:
        """Return the pixels' bytes."""
        return bytes(self.array[index].tobytes())

    def image(self, index: int) -> Image.Image:
        """Return the image."""
        pixels = self.array[index]
        return Image.fromarray(
            pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
        )


Loaded = tuple[Examples, tuple[str, ...]]


def folder(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return the images under a folder with one sub-folder a class, in natural order."""
    base = (root / name).absolute()
    if not base.is_dir():
        raise DataError(f"folder:{name}: there is no folder {base}.")
    found = sorted(
        (p.name for p in base.iterdir() if p.is_dir() and p.name[0] != "."), key=natural_key
    )
    if not found:
        raise DataError(f"{base} has no sub-folders; put the images of each class into one.")
    names = tuple(classes) if classes is not None else tuple(found)
    absent, surplus = set(names) - set(found), set(found) - set(names)
    if absent or surplus:
        raise DataError(
            f"{base}: the class folders do not match data.classes "
            f"(missing: {sorted(absent)}, not expected: {sorted(surplus)})."
        )
    files, targets = [], []
    for index, class_name in enumerate(names):
        images = [p for p in (base / class_name).rglob("*") if p.suffix.lower() in SUFFIXES]
        for path in sorted(images, key=natural_key):
            _inside(base, path)
            files.append(str(path.relative_to(base)))
            targets.append(index)
    empty = [n for i, n in enumerate(names) if i not in set(targets)]
    if empty:
        raise DataError(f"{base}: no images of class {', '.join(empty)} ({sorted(SUFFIXES)}).")
    return ImageFiles(base, files, np.array(targets, dtype=np.int64)), names


def table(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return the images a CSV file lists, with columns `path` and `label`."""
    file = (root / name).absolute()
    if not file.is_file():
        raise DataError(f"csv:{name}: there is no file {file}.")
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            columns = reader.fieldnames or ()
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file} is no UTF-8 CSV file: {error}") from None
    if "path" not in columns or "label" not in columns:
        raise DataError(f"{file} should have the columns path and label, found {list(columns)}.")
    labels = [row["label"] or "" for row in rows]
    names = tuple(classes) if classes is not None else tuple(sorted(set(labels), key=natural_key))
    problems, files, targets = [], [], []
    for number, row in enumerate(rows, start=2):
        path = file.parent / (row["path"] or "")
        if row["label"] not in names:
            problems.append(f"line {number}: label {row['label']!r} is not in data.classes")
        elif not path.is_file():
            problems.append(f"line {number}: there is no file {row['path']}")
        else:
            _inside(file.parent, path)
            files.append(row["path"])
            targets.append(names.index(row["label"]))
    _raise_all(file, problems)
    if not files:
        raise DataError(f"{file} lists no image.")
    return ImageFiles(file.parent, files, np.array(targets, dtype=np.int64)), names


def parquet(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return the images of a parquet file in the Hugging Face layout: image {bytes}, label."""
    require("pyarrow", "parquet", f"for parquet:{name}")
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = (root / name).absolute()
    if not file.is_file():
        raise DataError(f"parquet:{name}: there is no file {file}.")
    try:
        content = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} is no parquet file: {error}") from None
    columns = content.column_names
    image = next((c for c in ("image", "img") if c in columns), None)
    label = next((c for c in ("label", "labels", "fine_label") if c in columns), None)
    if image is None or label is None:
        raise DataError(f"{file} should have the columns image and label, found {columns}.")
    if content.num_rows == 0:
        raise DataError(f"{file} has no rows.")
    cells = content.column(image).to_pylist()
    encoded = [cell["bytes"] if isinstance(cell, dict) else cell for cell in cells]
    if not all(isinstance(cell, bytes) for cell in encoded):
        raise DataError(f"{file}: column {image} does not hold encoded images.")
    rows = [f"{file.name} row {number}" for number in range(len(encoded))]
    names, targets = _labels(
        content.column(label).to_pylist(), _declared(content, label), classes, file
    )
    return EncodedImages(encoded, rows, targets), names


def _declared(content: Any, label: str) -> list[str] | None:
    metadata = (content.schema.metadata or {}).get(b"huggingface")
    if metadata is None:
        return None
    try:
        names = json.loads(metadata)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return [str(name) for name in names]


def _labels(
    labels: list[Any], declared: list[str] | None, classes: Sequence[str] | None, where: Path
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Return class names and indices for labels that are indices or names."""
    if all(isinstance(value, int) for value in labels):
        count = max(labels, default=-1) + 1
        names = tuple(declared or classes or (str(i) for i in range(count)))
        if classes is not None and sorted(classes) == sorted(names):
            order = [list(classes).index(n) for n in names]
            return tuple(classes), np.array([order[value] for value in labels], dtype=np.int64)
        if classes is not None and len(classes) == len(names) and declared is None:
            names = tuple(classes)
        elif classes is not None:
            raise DataError(f"{where} has classes {list(names)}, data.classes {list(classes)}.")
        if count > len(names) or min(labels, default=0) < 0:
            raise DataError(f"{where}: label {count - 1} is beyond the {len(names)} class names.")
        return names, np.array(labels, dtype=np.int64)
    texts = [str(value) for value in labels]
    names = tuple(classes or sorted(set(texts), key=natural_key))
    unknown = sorted(set(texts) - set(names))
    if unknown:
        raise DataError(f"{where}: labels {unknown[:5]} are not in data.classes.")
    return names, np.array([names.index(text) for text in texts], dtype=np.int64)


def npz(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return the images of an NPZ file: `images` (N, H, W[, C]) bytes, `labels` (N,) integers."""
    file = (root / name).absolute()
    if not file.is_file():
        raise DataError(f"npz:{name}: there is no file {file}.")
    try:
        with np.load(file, allow_pickle=False) as content:
            arrays = {key: content[key] for key in content.files}
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise DataError(f"{file} is damaged, or holds objects instead of arrays: {error}") from None
    except Exception as error:  # zipfile and zlib have errors of their own
        raise DataError(f"{file} is damaged: {error}") from None
    images = next((arrays[k] for k in ("images", "x", "data") if k in arrays), None)
    labels = next((arrays[k] for k in ("labels", "y", "target") if k in arrays), None)
    if images is None or labels is None:
        raise DataError(
            f"{file} should hold images and labels (or x and y), found {sorted(arrays)}."
        )
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DataError(
            f"{file}: images should be bytes of shape (N, H, W) or (N, H, W, C), "
            f"found {images.dtype} {images.shape}."
        )
    if len(images) != len(labels) or len(images) == 0 or labels.dtype.kind not in "iu":
        raise DataError(f"{file}: {len(images)} images, {len(labels)} labels ({labels.dtype}).")
    declared = [str(n) for n in arrays["class_names"]] if "class_names" in arrays else None
    names, targets = _labels([int(v) for v in labels], declared, classes, file)
    return PixelArrays(images, [f"{file.name} row {i}" for i in range(len(images))], targets), names


def python(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return what a user's function returns: arrays (images, labels[, class_names])."""
    made = load_function(name, root)()
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise DataError(
            f"py:{name} should return (images, labels) or (images, labels, class_names), "
            f"found {type(made).__name__}."
        )
    images, labels = np.asarray(made[0]), np.asarray(made[1])
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(labels):
        raise DataError(
            f"py:{name}: images should be bytes (N, H, W[, C]) with one label each, "
            f"found {images.dtype} {images.shape} and {len(labels)} labels."
        )
    declared = [str(n) for n in made[2]] if len(made) == 3 else None
    names, targets = _labels([int(v) for v in labels], declared, classes, Path(name))
    return PixelArrays(images, [f"{name} row {i}" for i in range(len(images))], targets), names


KINDS: dict[str, Callable[[str, Path, Sequence[str] | None], Loaded]] = {
    "folder": folder,
    "csv": table,
    "parquet": parquet,
    "npz": npz,
    "py": python,
}


def _inside(base: Path, path: Path) -> None:
    """Raise unless `path` lies under `base`, links followed."""
    if not path.resolve().is_relative_to(base.resolve()):
        raise DataError(f"{path} leads out of {base}; files outside are not read.")


def _raise_all(file: Path, problems: list[str], shown: int = 20) -> None:
    if problems:
        more = [f"and {len(problems) - shown} more"] if len(problems) > shown else []
        raise DataError(f"{file}:\n" + "\n".join(f"  {p}" for p in problems[:shown] + more))
