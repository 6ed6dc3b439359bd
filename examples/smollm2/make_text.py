"""Writes the text of this example: docstrings of Python's own library, a document a module."""

from __future__ import annotations

import ast
import json
import sys
import sysconfig
from pathlib import Path

MOST, LEAST = 240, 200  # characters of a document


def documents(library: Path) -> list[str]:
    """Return the beginning of the docstrings of every module, in the order of their names."""
    found = []
    for file in sorted(library.glob("*.py")):
        tree = ast.parse(file.read_text("utf-8", errors="replace"))
        owners = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef)]
        text = "\n\n".join(filter(None, (ast.get_docstring(owner) for owner in owners)))
        if len(text) >= LEAST:
            found.append(text[:MOST])
    return found


if __name__ == "__main__":
    lines = [json.dumps({"text": text}) for text in documents(Path(sysconfig.get_path("stdlib")))]
    Path(__file__).with_name("docstrings.jsonl").write_text("\n".join(lines) + "\n")
    sys.stdout.write(f"{len(lines)} documents\n")
