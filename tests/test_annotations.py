"""Annotations say something: a plain `Any` is left where a value is really anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "srinit"
MOST = 0.03


def annotations(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield the annotations of all parameters, results and variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            yield from (each.annotation for each in every if each and each.annotation)
            if node.returns is not None:
                yield node.returns
        elif isinstance(node, ast.AnnAssign):
            yield node.annotation


def test_plain_any_is_rare() -> None:
    found = [
        ast.unparse(annotation)
        for path in SOURCE.rglob("*.py")
        for annotation in annotations(ast.parse(path.read_text("utf-8")))
    ]
    plain = sum(text in ("Any", "typing.Any") for text in found)
    assert plain <= MOST * len(found), (
        f"{plain} of {len(found)}: say `object` where nothing is done"
    )
