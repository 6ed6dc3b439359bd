"""What README and docs say was measured is what the result files say."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "criterion": ("docs/criteria.md",),
    "field": ("docs/criteria.md",),
    "recovery": ("docs/finetune.md",),
}
SCRIPTS = {"field": "field_table"}  # where the table is made, if not in the script itself


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if name in ("criterion", "field", "field_table", "recovery", "cifar"):
            del sys.modules[name]


@pytest.mark.parametrize("name", PAGES)
def test_pages_show_what_the_result_files_say(load: object, name: str) -> None:
    script: ModuleType = load(SCRIPTS.get(name, name))  # type: ignore[operator]
    text, found = script.tables()
    assert found
    for page in PAGES[name]:
        shown = (ROOT / page).read_text("utf-8")
        assert f"<!-- {name} -->\n\n{text.strip()}\n\n<!-- /{name} -->" in shown, page


def test_rank_correlation_of_a_reversed_order_is_minus_one(load: object) -> None:
    script: ModuleType = load("criterion")  # type: ignore[operator]
    truth = np.array([0.1, 0.5, 0.2, 0.9, 0.3])
    assert script.correlation(truth, truth) == pytest.approx((1, 1, 1))
    assert script.correlation(-truth, truth)[0] == pytest.approx(-1)


def test_outcomes_survive_packing(load: object) -> None:
    script: ModuleType = load("cifar")  # type: ignore[operator]
    correct = np.arange(10_000) % 7 == 0
    assert (script.unpacked(script.packed(correct)) == correct).all()


def test_every_stage_keeps_a_block(load: object) -> None:
    script: ModuleType = load("field")  # type: ignore[operator]
    names = ["layer1.0", "layer1.1", "layer2.0", "layer2.1"]
    assert script.thinned(names[::-1], names) == ["layer2.1", "layer1.1"]
