"""The glossary speaks of the code as it is: every class, file and page that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from srinit.config import Config

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "glossary.md"
ROWS = [
    line.split(" | ")
    for line in PAGE.read_text("utf-8").splitlines()
    if line.count("|") == 5 and " | " in line
]


@pytest.mark.parametrize(
    "name", sorted({n for row in ROWS for n in re.findall("`([^`]+)`", row[2])})
)
def test_what_the_glossary_names_is_in_the_code(name: str) -> None:
    if "/" in name or name.endswith(".py"):
        assert (ROOT / "src" / "srinit" / name).exists()
        return
    if name.islower():
        section, _, key = name.partition(".")
        assert key in Config.model_fields[section].annotation.model_fields  # type: ignore[union-attr]
        return
    room, _, title = name.rpartition(".")
    sources = (ROOT / "src" / "srinit").rglob("*.py")
    holders = [path for path in sources if f"\nclass {title}" in path.read_text("utf-8")]
    assert any(room in path.as_posix() for path in holders)


def test_the_pages_that_the_glossary_points_to_exist() -> None:
    links = re.findall(r"\]\(([^)#]+)", PAGE.read_text("utf-8"))
    assert links
    assert [link for link in links if not (PAGE.parent / link).is_file()] == []


def test_every_word_stands_once() -> None:
    words = [row[0].strip("| ") for row in ROWS if not row[0].startswith(("| word", "|---"))]
    assert len(words) == len(set(words))
    assert len(words) > 40
