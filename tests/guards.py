"""What no test may depend on: chance, order, and what another test left behind.

Every import of a test file, every fixture and every test begins with the same global random
state, whoever ran before. A test that leaves the process changed fails.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

SEED = 86_243  # none that a test draws with: a unit must differ from its own new draw
# Long files first, so that no worker is left alone with one in the end; measured, longest first.
LONG = (
    "test_report_browser", "test_cli", "test_edge_package", "test_examples", "test_rounds",
    "test_scan_cli", "test_operate", "test_distributed_finetune", "test_untouched", "test_registry",
    "test_long_runs", "test_published", "test_targets", "test_pruned_lives", "test_conformance",
    "test_recovery", "test_trial", "test_robustness",
)  # fmt: skip
# What libraries put into the environment when they are first imported or used.
LIBRARIES = ("CUDA", "KMP", "MLFLOW", "PYTEST", "TORCH", "TRITON", "HF_", "TF_", "_MLFLOW")


def reset_chance() -> None:
    """Give the global generators the state that all tests begin with."""
    random.seed(SEED)  # noqa: TID251  what the ban is there to keep from the library
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(SEED)  # noqa: NPY002, RUF100
    if (torch := sys.modules.get("torch")) is not None:
        torch.random.manual_seed(SEED)


def chance() -> list[Any]:
    """Return the state of the global generators that networks and data are drawn from."""
    found: list[Any] = []
    if (numpy := sys.modules.get("numpy")) is not None:
        _, keys, *rest = numpy.random.get_state()  # noqa: NPY002, RUF100
        found += [keys.tobytes(), rest]
    if (torch := sys.modules.get("torch")) is not None:
        found.append(torch.get_rng_state().numpy().tobytes())
    return found


def surroundings() -> dict[str, Any]:
    """Return what a test may change only for itself."""
    torch: Any = sys.modules.get("torch")
    found: dict[str, Any] = {
        "folder": str(Path.cwd()),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "environment": {k: v for k, v in os.environ.items() if not k.startswith(LIBRARIES)},
    }
    if torch is not None:
        found["torch"] = {
            "dtype": torch.get_default_dtype(),
            "threads": torch.get_num_threads(),
            "grad": torch.is_grad_enabled(),
            "inference": torch.is_inference_mode_enabled(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "matmul": torch.get_float32_matmul_precision(),
        }
    return found


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    files = [list(group) for _, group in itertools.groupby(items, lambda item: item.path)]
    seed = config.getoption("--shuffle", None)
    if seed is not None:
        order = random.Random(seed)
        order.shuffle(files)
        for tests in files:
            order.shuffle(tests)
    if "PYTEST_XDIST_WORKER" in os.environ:
        rank = {name: number for number, name in enumerate(LONG)}
        files.sort(key=lambda tests: rank.get(tests[0].path.stem, len(LONG)))
    items[:] = itertools.chain.from_iterable(files)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    import numpy.random  # noqa: F401
    import torch  # noqa: F401  before the first test file brings it

    reset_chance()  # for what a test file makes while it is imported
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, Any, Any]:
    reset_chance()
    try:
        return (yield)
    finally:
        reset_chance()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, Any, Any]:
    reset_chance()  # innermost, after whatever other plugins do
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    reset_chance()  # doctests too
    item.stash[BEFORE] = surroundings()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    result = yield
    before, after = item.stash[BEFORE], surroundings()
    left = {key: (before[key], after[key]) for key in before if after[key] != before[key]}
    if left:
        pytest.fail(f"the test left the process changed: {left}", pytrace=False)
    return result


BEFORE = pytest.StashKey[dict[str, Any]]()
