"""A few hundred damaged files for every reader; benchmarks/fuzz.py feeds it 100,000 each."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FILE = Path(__file__).resolve().parent.parent / "benchmarks" / "fuzz.py"
NAMES = (
    "config", "config values", "plan", "recipe", "journal", "audit log", "hashes", "csv list",
    "arrays", "array data",
)  # fmt: skip


@pytest.fixture(scope="module")
def fuzz() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("srinit_fuzz", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    before = [signal.signal(kind, module._stop) for kind in (signal.SIGALRM, signal.SIGPROF)]
    yield module
    signal.signal(signal.SIGALRM, before[0])
    signal.signal(signal.SIGPROF, before[1])


def test_the_list_of_targets_is_complete(fuzz: ModuleType, tmp_path: Path) -> None:
    assert tuple(fuzz.targets(tmp_path)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_undamaged_file_is_read(fuzz: ModuleType, tmp_path: Path, name: str) -> None:
    seed, read = fuzz.targets(tmp_path)[name]
    read(seed)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_read_or_refused(fuzz: ModuleType, tmp_path: Path, name: str) -> None:
    seed, read = fuzz.targets(tmp_path)[name]
    counts, failures = fuzz.run_chunk(name, seed, read, 0, 150)
    assert failures == []
    assert sum(counts.values()) == 150


def test_damage_can_be_repeated_by_its_number(fuzz: ModuleType) -> None:
    one, other = (fuzz.damaged(b'{"a": [1, 2]}', np.random.default_rng(7)) for _ in range(2))
    assert one == other
