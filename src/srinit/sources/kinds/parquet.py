"""Parquet files in the Hugging Face layout, or with plain columns of encoded images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from srinit.class_names import natural_key
from srinit.errors import DataError, require
from srinit.sources.examples import EncodedImages
from srinit.sources.kinds.loaded import Loaded, class_indices

IMAGE_COLUMNS = ("image", "img", "x", "bytes")
LABEL_COLUMNS = ("label", "labels", "fine_label", "y", "target")


def parquet(name: str, root: Path, classes: Sequence[str] | None) -> Loaded:
    """Return the images of parquet files: a column of encoded images, a column of labels.

    The image column holds `{bytes, path}` (Hugging Face) or bytes; class names come from the
    Hugging Face metadata where it is there.

    Args:
        name: A file, a folder of files, or a pattern such as `data/train-*.parquet`.
        root: Folder that relative paths start from.
        classes: Class names in the order of the model's outputs.

    Raises:
        DataError: No such file, a damaged file, other columns, cells that are no images.
    """
    require("pyarrow", "parquet", f"for parquet:{name}")
    files = parquet_files(name, root)
    tables = [_read(file) for file in files]
    loaded = from_tables(tables, [file.name for file in files], classes, where=f"parquet:{name}")
    return loaded._replace(notes=_left_out((root / name).absolute(), files))


def _left_out(path: Path, files: Sequence[Path]) -> tuple[str, ...]:
    """Return a sentence if a folder holds more than the files that are read."""
    if not path.is_dir():
        return ()
    read = {file.name for file in files}
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in read)
    if not others:
        return ()
    return (
        f"{path}: {len(others)} other files or folders were left out ({', '.join(others[:3])})",
    )


def parquet_files(name: str, root: Path) -> list[Path]:
    """Return the files a source names, in natural order.

    Raises:
        DataError: There are none.
    """
    path = (root / name).absolute()
    if path.is_dir():
        files = [file for file in path.glob("*.parquet") if not file.name.startswith(".")]
    elif "*" in path.name or "?" in path.name:
        files = list(path.parent.glob(path.name)) if path.parent.is_dir() else []
    else:
        files = [path] if path.is_file() else []
    if not files:
        raise DataError(f"parquet:{name}: there is no parquet file {path}.")
    return sorted(files, key=natural_key)


def _read(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_schema(file).names
        image, label = pick_columns(columns, str(file))
        return pq.read_table(file, columns=[image, label])
    except (pa.lib.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{file} is damaged or no parquet file: {reason}") from None


def pick_columns(columns: Sequence[str], where: str) -> tuple[str, str]:
    """Return the names of the image and the label column.

    Raises:
        DataError: One is missing.
    """
    image = next((c for c in IMAGE_COLUMNS if c in columns), None)
    label = next((c for c in LABEL_COLUMNS if c in columns), None)
    if image is None or label is None:
        raise DataError(
            f"{where} should have an image column (one of {', '.join(IMAGE_COLUMNS)}) and a label "
            f"column ({', '.join(LABEL_COLUMNS)}), found {list(columns)[:12]}."
        )
    return image, label


def from_tables(
    tables: Sequence[Any],
    titles: Sequence[str],
    classes: Sequence[str] | None,
    *,
    where: str,
    declared: Sequence[str] | None = None,
) -> Loaded:
    """Return the examples of Arrow tables with an image and a label column.

    Args:
        tables: The tables, of one layout.
        titles: A name for each, for the names of the examples.
        classes: Class names in the order of the model's outputs.
        where: The source, for messages.
        declared: Class names in the order of the labels; by default those of the metadata.

    Raises:
        DataError: No rows, or cells that are no encoded images.
    """
    encoded: list[bytes] = []
    names: list[str] = []
    labels: list[Any] = []
    for content, title in zip(tables, titles, strict=True):
        image, label = pick_columns(content.column_names, title)
        for row, cell in enumerate(content.column(image).to_pylist()):
            encoded.append(_encoded(cell, f"{title} row {row}"))
            path = cell.get("path") if isinstance(cell, dict) else None
            names.append(f"{title} row {row}" + (f" ({path})" if path else ""))
        labels += content.column(label).to_pylist()
    if not encoded:
        raise DataError(f"{where} has no rows.")
    declared = declared or _declared(tables[0])
    class_names, targets = class_indices(labels, declared=declared, classes=classes, where=where)
    return Loaded(EncodedImages(encoded, names, targets), class_names)


def _encoded(cell: object, where: str) -> bytes:
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if isinstance(content, bytes):
        return content
    raise DataError(
        f"{where} holds no encoded image (found {type(content).__name__}); store the bytes of "
        "the image files, or list the files in a csv: source."
    )


def _declared(content: Any) -> list[str] | None:
    """Return the class names of the Hugging Face metadata, if there are any."""
    metadata = (content.schema.metadata or {}).get(b"huggingface")
    if metadata is None:
        return None
    label = next(c for c in LABEL_COLUMNS if c in content.column_names)
    try:
        names = json.loads(metadata)["info"]["features"][label]["names"]
        return [str(name) for name in names]
    except (ValueError, KeyError, TypeError):
        return None
