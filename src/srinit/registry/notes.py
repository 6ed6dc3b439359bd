"""What a local database held when srinit wrote it last, kept beside it in `aliases.json`.

A database cannot be hashed as a whole: MLflow writes to it whenever it likes. What decides which
network is served is noted instead, the aliases and the hash of every version. A flipped bit or a
table that was edited moves no alias unnoticed.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from srinit.errors import IntegrityError, RegistryError
from srinit.store.files import write_text

FILE, SCHEMA = "aliases.json", "srinit.aliases/1"


def check_database(path: Path) -> None:
    """Let SQLite look through all pages of its file.

    Raises:
        IntegrityError: It is damaged.
        RegistryError: Another process holds it.
    """
    try:
        with closing(sqlite3.connect(path)) as connection:
            found = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
        if path.stat().st_size == 0:  # to SQLite a database without tables
            found = "it is empty"
    except sqlite3.OperationalError as error:
        raise RegistryError(f"the registry {path} cannot be opened: {error}; repeat.") from None
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise IntegrityError(
            f"the registry {path} is damaged: {' '.join(found.split())[:200]}. Restore it from a "
            "backup; nothing was changed."
        )


def check(
    folder: Path, model: str, *, aliases: Mapping[str, int], versions: Mapping[int, str]
) -> None:
    """Compare the aliases and versions of a model with those that were noted.

    Versions that were made since are nothing to worry about: their files have their hashes.

    Raises:
        IntegrityError: An alias or the hash of a version is another.
    """
    noted = _read(folder / FILE).get(model)
    if noted is None:
        return
    for number, digest in noted["versions"].items():
        if versions.get(int(number)) != digest:
            raise IntegrityError(
                f"version {number} of {model} has another hash in the registry {folder} than when "
                "it was registered, or is gone; the database was edited or damaged. Restore it "
                f"from a backup, or delete {folder / FILE} if that was on purpose."
            )
    if not noted["moving"] and dict(aliases) != noted["aliases"]:
        raise IntegrityError(
            f"the aliases of {model} in the registry {folder} are {_told(aliases)}, but srinit "
            f"left them at {_told(noted['aliases'])}; the database was edited or damaged. Restore "
            f"it from a backup, or delete {folder / FILE} if they were moved on purpose."
        )


def write(
    folder: Path,
    model: str,
    *,
    aliases: Mapping[str, int],
    versions: Mapping[int, str],
    moving: bool,
) -> None:
    """Note the aliases and versions of a model.

    Args:
        folder: Of the local registry.
        model: Its name.
        aliases: Name to version.
        versions: Number to hash.
        moving: An alias move has begun, so that aliases say nothing until it is complete.
    """
    path = folder / FILE
    entry = {
        "aliases": dict(aliases),
        "versions": {str(number): digest for number, digest in versions.items()},
        "moving": moving,
    }
    body = {"schema": SCHEMA, "models": {**_read(path), model: entry}}
    write_text(path, json.dumps(body, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def _read(path: Path) -> dict[str, Any]:
    """Return the entries by model; none without a file."""
    if not path.is_file():
        return {}
    try:
        body = json.loads(path.read_bytes())
        if body["schema"] != SCHEMA:
            raise ValueError
        models = dict(body["models"])
        for entry in models.values():
            if not isinstance(entry["moving"], bool) or not isinstance(entry["aliases"], dict):
                raise ValueError
            {int(number): digest for number, digest in entry["versions"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise IntegrityError(
            f"{path} is damaged. Look whether the aliases in the registry are right, and delete it."
        ) from None
    return models


def _told(aliases: Mapping[str, int]) -> str:
    return ", ".join(f"{name} = {aliases[name]}" for name in sorted(aliases)) or "none"
