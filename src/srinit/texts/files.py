"""The documents of text files: paragraphs or lines, rows of JSON lines, cells of parquet files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from srinit.class_names import natural_key
from srinit.errors import DataError, require

Unit = Literal["paragraph", "line", "file"]
Document = tuple[str, str | list[dict[str, Any]]]  # name, and text or messages
ENDINGS = (".txt", ".md", ".jsonl", ".parquet")
MAX_BYTES = 4 << 30


def text_files(name: str, root: Path) -> list[Path]:
    """Return the files that a source names: one, or all of a folder, in natural order.

    Raises:
        DataError: There are none.
    """
    place = (root / name).absolute()
    found = [place] if place.is_file() else []
    if place.is_dir():
        found = [p for p in place.iterdir() if p.suffix.lower() in ENDINGS and p.is_file()]
        found = sorted((p for p in found if not p.name.startswith(".")), key=natural_key)
    if not found:
        raise DataError(
            f"text:{name}: there is no file {place}, nor a folder with files that end in "
            f"{', '.join(ENDINGS)}."
        )
    large = next((p for p in found if p.stat().st_size > MAX_BYTES), None)
    if large is not None:
        raise DataError(f"{large} is larger than {MAX_BYTES >> 30} GiB; cut it into parts.")
    return found


def documents_of(file: Path, field: str, unit: Unit) -> Iterator[Document]:
    """Yield the documents of one file, those that are empty too.

    Args:
        file: Its ending says what it is; without a known one it is plain text.
        field: Key of JSON lines, column of parquet files.
        unit: What a document is in plain text.

    Raises:
        DataError: It is not UTF-8, not what its ending says, or lacks the field.
    """
    kind = file.suffix.lower()
    if kind == ".parquet":
        yield from _parquet(file, field)
    elif kind == ".jsonl":
        yield from _json_lines(file, field)
    else:
        yield from _plain(file, unit)


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} is not UTF-8 (byte {error.start}); convert it, for example with "
            "iconv -t UTF-8."
        ) from None
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}.") from None


def _plain(file: Path, unit: Unit) -> Iterator[Document]:
    text = _read(file).replace("\r\n", "\n").replace("\r", "\n")
    if unit == "file":
        yield file.name, text.strip()
        return
    parts = text.split("\n") if unit == "line" else re.split(r"\n[^\S\n]*\n", text)
    for number, part in enumerate(parts, start=1):
        yield f"{file.name} {unit} {number}", part.strip()


def _json_lines(file: Path, field: str) -> Iterator[Document]:
    for number, line in enumerate(_read(file).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file.name} line {number}"
        try:
            body = json.loads(line)
        except ValueError as error:
            raise DataError(f"{file}: line {number} is not JSON: {error}.") from None
        if not isinstance(body, dict) or field not in body:
            keys = list(body)[:8] if isinstance(body, dict) else type(body).__name__
            raise DataError(
                f"{file}: line {number} has no field {field!r} (found {keys}); write data.text."
                "field."
            )
        yield where, _value(body[field], where)


def _parquet(file: Path, field: str) -> Iterator[Document]:
    require("pyarrow", "parquet", f"for text:{file.name}")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(file).names
        if field not in names:
            raise DataError(
                f"{file} has no column {field!r} (found {names[:8]}); write data.text.field."
            )
        cells = pq.read_table(file, columns=[field]).column(field).to_pylist()
    except (pa.lib.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{file} is damaged or no parquet file: {reason}") from None
    for number, cell in enumerate(cells, start=1):
        where = f"{file.name} row {number}"
        yield where, _value("" if cell is None else cell, where)


def _value(value: object, where: str) -> str | list[dict[str, Any]]:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return value
    raise DataError(
        f"{where} holds {type(value).__name__}, neither a text nor a list of messages "
        "({role, content})."
    )
