"""What a builder of models is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _ignore(_: str) -> None:
    """Drop a note."""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """The name after a source's prefix, and how its network is to be built."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)  # of the factory
    root: Path = Path()  # folder that relative paths start from
    download: bool = False  # whether files may be fetched
    bare: bool = False  # the weights come from elsewhere: those beside the model are not read
    note: Callable[[str], None] = _ignore  # told of everything worth knowing
