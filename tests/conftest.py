"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shared",
        default=str(ROOT.parent / "shared"),
        help="folder with data/cifar10-jpeg and checkpoints; tests that need it skip without",
    )
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files")


@pytest.fixture(scope="session")
def shared_dir(request: pytest.FixtureRequest) -> Path:
    """Folder with the CIFAR-10 parquet files and the trained checkpoints."""
    folder = Path(request.config.getoption("--shared"))
    if not (folder / "data" / "cifar10-jpeg" / "test.parquet").is_file():
        pytest.skip(f"no CIFAR-10 data under {folder} (pass --shared FOLDER)")
    return folder
