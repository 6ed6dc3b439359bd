"""Reads documents and tokenizes them with the model's own tokenizer; nothing is downloaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from srinit.errors import ConfigError, DataError, require
from srinit.networks import packed_file
from srinit.texts.files import Document, Unit, documents_of, text_files


@dataclass(frozen=True)
class TextReading:
    """How texts become rows of tokens; `srinit.config` has the same settings in `data.text`.

    Attributes:
        tokenizer: A folder with a tokenizer, or a GGUF file; None where there is none.
        length: Tokens of a row.
        packed: Fill rows with document after document, the end-of-text token between them; else
            each row holds one document or a part of it, padded, with a mask.
        field: Key of JSON lines, column of parquet files.
        unit: What a document is in plain text.
        chat_template: Write messages, or a text as that of a user, by the tokenizer's template.
    """

    tokenizer: Path | None
    length: int = 512
    packed: bool = False
    field: str = "text"
    unit: Unit = "paragraph"
    chat_template: bool = False


@dataclass(frozen=True)
class TextDocuments:
    """Documents before they become rows: what is split, limited and compared by content."""

    tokens: tuple[tuple[int, ...], ...]
    hashes: tuple[bytes, ...]  # of the texts
    names: tuple[str, ...]
    end: int | None  # token between packed documents
    pad: int

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """One column that says nothing: documents have no classes."""
        return np.zeros((len(self.tokens), 1), dtype=np.int64)

    def content(self, index: int) -> bytes:
        """Return what the hash of a document is of."""
        return self.hashes[index]


def text_documents(
    name: str, root: Path, reading: TextReading
) -> tuple[TextDocuments, tuple[str, ...]]:
    """Return the documents of a source with their tokens, and what the user should know.

    Args:
        name: A file (.txt, .jsonl, .parquet), or a folder of them.
        root: Folder that a relative path starts from.
        reading: How they are read.

    Raises:
        ConfigError: There is no tokenizer, or it has no chat template.
        DataError: A file is missing or damaged, or holds no document.
    """
    tokenizer = load_tokenizer(reading.tokenizer, f"text:{name}")
    found: list[Document] = []
    files = text_files(name, root)
    for file in files:
        found += documents_of(file, reading.field, reading.unit)
    named = [(title, body) for title, body in found if body]
    if not named:
        raise DataError(f"text:{name} holds no document: {len(files)} files are empty.")
    texts = [_as_text(body, tokenizer, reading, title) for title, body in named]
    # A template writes the special tokens itself.
    tokens = tokenizer(texts, add_special_tokens=not reading.chat_template, verbose=False)
    notes = []
    if len(named) < len(found):
        notes.append(f"text:{name}: {len(found) - len(named)} empty documents were left out")
    documents = TextDocuments(
        tokens=tuple(tuple(ids) for ids in tokens["input_ids"]),
        hashes=tuple(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
                     for text in texts),
        names=tuple(title for title, _ in named),
        end=tokenizer.eos_token_id,
        pad=_padding(tokenizer),
    )  # fmt: skip
    return documents, tuple(notes)


def load_tokenizer(place: Path | None, where: str) -> Any:
    """Return a tokenizer from local files.

    Raises:
        ConfigError: There is none.
    """
    if place is None:
        raise ConfigError(
            f"{where} needs a tokenizer, and the model's source is no folder that has one: write "
            "data.text.tokenizer: FOLDER."
        )
    require("transformers", "hf", f"for {where}")
    import transformers

    packed = packed_file(place)
    origin = place if packed is None else packed.parent
    more = {} if packed is None else {"gguf_file": packed.name}
    try:
        return transformers.AutoTokenizer.from_pretrained(
            origin, local_files_only=True, trust_remote_code=False, **more
        )
    except Exception as error:  # readers of many formats, with errors of their own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"{where} needs a tokenizer, and {place} has none that can be read ({reason}): write "
            "data.text.tokenizer: FOLDER."
        ) from None


def _as_text(
    body: str | list[dict[str, Any]], tokenizer: Any, reading: TextReading, title: str
) -> str:
    if not reading.chat_template:
        if isinstance(body, str):
            return body
        raise DataError(f"{title} holds messages: write data.text.chat_template: true.")
    if not tokenizer.chat_template:
        raise ConfigError(
            f"data.text.chat_template: the tokenizer of {reading.tokenizer} has no chat template."
        )
    messages = [{"role": "user", "content": body}] if isinstance(body, str) else body
    try:
        made = tokenizer.apply_chat_template(messages, tokenize=False)
    except Exception as error:  # templates are programs, with errors of their own
        shown = json.dumps(messages, ensure_ascii=False)[:120]
        raise DataError(f"{title}: the chat template refuses {shown}: {error}") from None
    return str(made)


def _padding(tokenizer: Any) -> int:
    """Return the token that fills rows up; masked, so that any will do."""
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in known if token is not None)
