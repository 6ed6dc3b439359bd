"""Gather what the documentation site is made of, in dist/docs, with the links as they are here.

    python scripts/gather_docs.py [TARGET]      then: mkdocs build, which scripts/site does

Pages keep their places (README.md, docs/, examples/*/README.md ...), so that a link works in the
repository and on the site. The page of the public interface is made here, from its docstrings; the
notebook becomes a page.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import srinit

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "dist" / "docs"
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/*.md", "examples/*/README.md")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
MORE = (  # public, but not at the top of the package
    "srinit.criteria.score_units",
    "srinit.distributed.process_group",
    "srinit.registry.open_registry",
    "srinit.report.load_report_input",
    "srinit.report.write_report",
)


def gather(target: Path = TARGET) -> None:
    """Write the folder anew.

    Raises:
        FileNotFoundError: A page links to what is not there.
    """
    shutil.rmtree(target, ignore_errors=True)
    pages = [path for pattern in PAGES for path in ROOT.glob(pattern)]
    pages += (ROOT / "docs").rglob("*.md")
    for path in pages:
        _write(target / path.relative_to(ROOT), _linked(path, target))
    for path in (ROOT / "docs").rglob("*.ipynb"):
        _write((target / path.relative_to(ROOT)).with_suffix(".md"), notebook(path))
    _write(target / "api.md", interface())


def _linked(page: Path, target: Path) -> str:
    """Return the text of a page; files that it links to come along, folders are their README."""

    def place(match: re.Match[str]) -> str:
        there = (page.parent / match[1]).resolve()
        if not there.exists():
            raise FileNotFoundError(f"{page.relative_to(ROOT)} links to {match[1]}")
        if there.suffix == ".ipynb":
            return match[1].removesuffix(".ipynb") + ".md"
        if there.is_file() and there.suffix != ".md":
            copied = target / there.relative_to(ROOT)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(there, copied)
        return match[1]

    return LINK.sub(place, page.read_text("utf-8"))


def notebook(path: Path) -> str:
    """Return a notebook as a page: its text and its code, without what it answers."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    parts = []
    for cell in cells:
        text = "".join(cell["source"]).rstrip()
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    first, *rest = parts
    where = f"As a notebook: `{path.relative_to(ROOT).as_posix()}` in the repository."
    return "\n\n".join([first, where, *rest]) + "\n"


def interface() -> str:
    """Return the page of the public names, with a place for every docstring."""
    rooms = {name: f"srinit.{srinit._WHERE[name]}.{name}" for name in srinit.__all__}
    functions = sorted((n for n in rooms if n.islower()), key=str.lower)
    classes = sorted(n for n in rooms if not n.islower())
    places = [*(rooms[name] for name in functions), *MORE, *(rooms[name] for name in classes)]
    head = (
        "# Python\n\nThe public names of `srinit`; those at the top of the package are imported "
        "from there (`from srinit import find_units`). How they go together: "
        "[README](README.md#from-python), "
        "[the notebook](docs/tutorials/research.md), [architecture](docs/ARCHITECTURE.md).\n\n"
    )
    return head + "\n".join(f"::: {place}\n" for place in places)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    gather(*map(Path, sys.argv[1:2]))
