"""A local database, looked through before it is used."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from srinit.errors import IntegrityError, RegistryError


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
