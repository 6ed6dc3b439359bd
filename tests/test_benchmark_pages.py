"""Pages of the tiles and of the criteria after compensation show what the result files say."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = (
    "cifar", "compensation", "criterion", "criterion_compensated", "edge", "field", "networks",
    "one_copy", "smollm2", "tiles", "tiles_data", "tiles_marked", "tiles_marked_data", "which_set",
)  # fmt: skip


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name in OURS:
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("compensation", "compensation"),
        ("which_set", "which set"),
        ("smollm2", "smollm2"),
        ("one_copy", "one copy"),
    ],
)
def test_the_page_of_compensation_shows_what_was_measured(load: Any, name: str, place: str) -> None:
    script: ModuleType = load(name)
    text, shown = script.table(script.PATH), script.PAGE.read_text("utf-8")
    assert text.count("\n") > 2
    assert f"<!-- {place} -->\n\n{text.strip()}\n\n<!-- /{place} -->" in shown


def test_the_page_of_the_tiles_shows_what_was_measured(load: Any) -> None:
    script: ModuleType = load("tiles")
    text = script.tables(json.loads(script.PATH.read_text("utf-8"))["entries"])
    shown = script.PAGE.read_text("utf-8")
    assert f"<!-- tiles -->\n\n{text.strip()}\n\n<!-- /tiles -->" in shown


def test_the_page_of_the_tiles_shows_what_was_measured_of_marked_ones(load: Any) -> None:
    script: ModuleType = load("tiles_marked")
    text = script.tables(json.loads(script.PATH.read_text("utf-8"))["entries"])
    shown = script.PAGE.read_text("utf-8")
    assert text.count("\n") > 5
    assert f"<!-- tiles marked -->\n\n{text.strip()}\n\n<!-- /tiles marked -->" in shown


def test_the_page_of_the_criteria_shows_the_cost_after_compensation(load: Any) -> None:
    script: ModuleType = load("criterion_compensated")
    text, _ = script.tables()
    shown = (ROOT / "docs" / "criteria.md").read_text("utf-8")
    name = script.NAME
    assert f"<!-- {name} -->\n\n{text.strip()}\n\n<!-- /{name} -->" in shown


def test_the_page_of_the_edge_shows_what_was_measured(load: Any) -> None:
    script: ModuleType = load("edge")
    text = script.tables(json.loads(script.PATH.read_text("utf-8"))["entries"])
    shown = script.PAGE.read_text("utf-8")
    assert text.count("\n") > 5
    assert f"<!-- edge -->\n\n{text.strip()}\n\n<!-- /edge -->" in shown


def test_pictures_of_one_tile_are_never_on_two_sides(load: Any, tmp_path: Path) -> None:
    script: ModuleType = load("tiles_data")
    for frame in np.random.default_rng(0).choice(40_000, 120, replace=False).tolist():
        name = script.CLASSES[frame % 6]
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / f"exp{frame % 7}_num_{frame}.jpg").touch()
    groups = script.tiles(tmp_path)
    tile = {path: number for number, group in enumerate(groups) for path in group}
    assert 1 < len(groups) < len(tile) == 120
    for part in range(script.FOLDS):
        sides = script.sides(tmp_path, f"tile-{part}")
        assert sum(map(len, sides.values())) == 120
        numbers = [{tile[path] for path in paths} for paths in sides.values()]
        assert len(set.union(*numbers)) == sum(map(len, numbers))
