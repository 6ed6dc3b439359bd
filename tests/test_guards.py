"""No test depends on chance, whatever ran before it; no test leaves the process changed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import guards
import processes

TESTS = Path(__file__).resolve().parent
AT_IMPORT = nn.Linear(3, 2).weight.detach().clone()
DRAWN: list[tuple[float, ...]] = []


def draw() -> tuple[float, ...]:
    return (random.random(), float(np.random.rand()), float(torch.rand(1)))  # noqa: NPY002


@pytest.fixture
def drawn() -> tuple[float, ...]:
    return draw()


@pytest.mark.parametrize("waste", [0, 1, 7])
def test_every_import_fixture_and_test_begins_with_the_same_random_state(
    waste: int, drawn: tuple[float, ...]
) -> None:
    DRAWN.extend([drawn, draw()])
    assert len(set(DRAWN)) == 1
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(guards.SEED)
        assert torch.equal(nn.Linear(3, 2).weight, AT_IMPORT)
    torch.rand(waste)


def test_no_helper_draws_while_it_is_imported() -> None:
    """Else what a test file makes at its import would depend on who imported the helper first."""
    names = sorted(
        ".".join(path.relative_to(TESTS).with_suffix("").parts).removesuffix(".__init__")
        for path in TESTS.rglob("*.py")
        if not path.name.startswith("test_") and path.name != "conftest.py"
    )
    code = (
        "import importlib, sys\nimport numpy, torch\nimport guards\nbefore = guards.chance()\n"
        "for name in sys.argv[1:]:\n    importlib.import_module(name)\n"
        "    assert guards.chance() == before, name"
    )
    done = processes.run("-c", code, *names, env=processes.environment(PYTHONPATH=str(TESTS)))
    assert done.returncode == 0, done.stderr


LEAKS = {
    "os.environ['LEFT'] = '1'": "LEFT",
    "os.chdir('/')": "folder",
    "torch.set_default_dtype(torch.float64)": "float64",
    "torch.set_grad_enabled(False)": "grad",
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)": "signals",
}


def inner(folder: Path, *options: str) -> str:
    """Run the tests of a folder in a process of their own, under the guards."""
    done = processes.run(
        "-m", "pytest", "-p", "guards", "-p", "no:cacheprovider", *options, cwd=folder,
        env=processes.environment(PYTHONPATH=str(TESTS)),
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_a_test_that_leaves_the_process_changed_fails(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import os, signal\nimport torch\n\n"
        + "".join(f"def test_{number}(): {line}\n" for number, line in enumerate(LEAKS))
        + "def test_clean(): torch.rand(1)\n"
    )
    told = inner(tmp_path, "-q", "--tb=line")
    assert "6 passed, 5 errors" in told
    assert all(words in told for words in LEAKS.values())


def test_the_order_of_a_seed_is_the_same_and_another_seeds_another(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.parametrize('n', range(9))\ndef test_it(n): pass\n"
    )
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--shuffle', type=int)"
    )
    told = [inner(tmp_path, "-v", "--shuffle", seed).splitlines() for seed in ("1", "1", "2")]
    orders = [[row.split()[0] for row in rows if "PASSED" in row] for rows in told]
    assert orders[0] == orders[1] != orders[2]
    assert len(orders[0]) == 9
