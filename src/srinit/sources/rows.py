"""Documents as rows of tokens of one length: packed, or padded with masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from srinit.errors import DataError
from srinit.padding import IGNORED
from srinit.sources.dataset import DataSet
from srinit.sources.examples import Arrays
from srinit.sources.pool import Pool
from srinit.texts import TextDocuments

# N rows, T tokens

Tokens = npt.NDArray[np.int64]
LEAST = 2  # tokens: the first is not predicted


@dataclass(frozen=True)
class TextRows(Arrays):
    """Rows of tokens; several may belong to one document."""

    documents: Tokens | None = None  # (N,), the document of each row; None: rows hold several


def in_rows(data: DataSet, *, length: int, packed: bool) -> DataSet:
    """Return documents as rows of tokens, with the same tokens as targets.

    Args:
        data: Documents; data of other kinds are returned as they are.
        length: Tokens of a row.
        packed: Fill each row, the end-of-text token between documents; what is left of the last
            row is left out. Else every row holds one document or a part of it, is padded to the
            longest, and has a mask; padded targets are -100.

    Raises:
        DataError: There are fewer tokens than one row, or no document of two tokens.
    """
    documents = data.pool.examples
    if not isinstance(documents, TextDocuments):
        return data
    chosen = [documents.tokens[index] for index in data.indices]
    names = [documents.names[index] for index in data.indices]
    make = _packed if packed else _padded
    rows, note = make(chosen, names, documents, length)
    total = sum(map(len, chosen))
    told = f"{data.pool.source}: {len(chosen)} documents, {total} tokens, in {note}"
    pool = Pool(data.pool.source, rows, (), data.pool.preprocess, notes=(*data.pool.notes, told))
    return DataSet(pool, tuple(range(len(rows.names))))


def _packed(
    chosen: Sequence[Sequence[int]], names: Sequence[str], documents: TextDocuments, length: int
) -> tuple[TextRows, str]:
    between = [] if documents.end is None else [documents.end]
    stream: list[int] = []
    begins: list[int] = []
    for tokens in chosen:
        begins.append(len(stream))
        ends = bool(between) and len(tokens) > 0 and tokens[-1] == between[0]
        stream += [*tokens, *([] if ends else between)]
    count = len(stream) // length
    if count == 0:
        raise DataError(
            f"{len(chosen)} documents hold {len(stream)} tokens, less than one packed row of "
            f"{length}: write a smaller data.text.length, data.text.packed: false, or give this "
            "set more."
        )
    rows = np.array(stream[: count * length], dtype=np.int64).reshape(count, length)
    first = np.searchsorted(begins, np.arange(count) * length, side="right") - 1
    titles = [f"row {number} from {names[at]}" for number, at in enumerate(first)]
    left = len(stream) - count * length
    return (
        TextRows({"input_ids": rows}, titles, rows.copy()),
        f"{count} packed rows of {length}; {left} tokens at the end are left out",
    )


def _padded(
    chosen: Sequence[Sequence[int]], names: Sequence[str], documents: TextDocuments, length: int
) -> tuple[TextRows, str]:
    parts: list[Sequence[int]] = []
    owners: list[int] = []
    short = 0
    for number, tokens in enumerate(chosen):
        for begin in range(0, max(1, len(tokens)), length):
            part = tokens[begin : begin + length]
            if len(part) < LEAST:
                short += len(part)
                continue
            parts.append(part)
            owners.append(number)
    if not parts:
        raise DataError(
            f"none of {len(chosen)} documents has {LEAST} tokens; nothing is predicted."
        )
    shape = (len(parts), max(map(len, parts)))
    ids = np.full(shape, documents.pad, dtype=np.int64)
    mask = np.zeros(shape, dtype=np.int64)
    targets = np.full(shape, IGNORED, dtype=np.int64)
    for row, part in enumerate(parts):
        ids[row, : len(part)] = targets[row, : len(part)] = part
        mask[row, : len(part)] = 1
    titles = [f"{names[owner]} row {row}" for row, owner in enumerate(owners)]
    rest = f"; {short} tokens that stand alone are left out" if short else ""
    return (
        TextRows({"input_ids": ids, "attention_mask": mask}, titles, targets, np.array(owners)),
        f"{len(parts)} padded rows of {shape[1]}{rest}",
    )
