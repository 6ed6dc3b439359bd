"""The rooms of the package: none is too large, and other rooms come in by the front door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "srinit"
ROOMS = sorted(path.parent.name for path in SOURCE.glob("*/__init__.py"))
MOST_LINES = 3000
LARGER = {"report"}
CLOSED = ("engine", "networks", "realignment", "recording")


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in LARGER])
def test_a_room_is_small_enough_to_be_known(room: str) -> None:
    files = (SOURCE / room).rglob("*.py")
    assert sum(len(path.read_text("utf-8").splitlines()) for path in files) <= MOST_LINES


@pytest.mark.parametrize("room", CLOSED)
def test_other_rooms_take_nothing_out_from_under_a_room(room: str) -> None:
    past_the_door = [
        f"{path.relative_to(SOURCE)}:{line}: {name}"
        for path in SOURCE.rglob("*.py")
        if path.relative_to(SOURCE).parts[0] != room
        for line, name in _imports(path)
        if name.startswith(f"srinit.{room}.")
    ]
    assert past_the_door == []
