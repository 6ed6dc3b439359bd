"""The error for a name that nothing has."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from srinit.errors import ModelError


def unknown(what: str, name: str, known: Iterable[str]) -> ModelError:
    """Return the error that says so, with the nearest known names."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return ModelError(f"{what} is not known" + (f"; nearest: {', '.join(near)}." if near else "."))
