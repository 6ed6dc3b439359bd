"""Fixtures that every test may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import guards

if TYPE_CHECKING:
    from srinit.report import ReportInput

ROOT = Path(__file__).resolve().parent.parent


# Without compiled files every process would compile all of torch again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if "PYTEST_XDIST_WORKER" in os.environ:  # side by side, one thread each
    os.environ["OMP_NUM_THREADS"] = "1"  # of commands that tests start, too


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(guards, "guards")
    config.option.loadscopereorder = False  # xdist: in the order of guards.LONG


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="random order of files and tests")
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


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder like the demo's, with a network trained for a moment."""
    import numpy as np
    from safetensors.torch import save_file
    from sklearn.datasets import load_digits

    from srinit.demo.train import train
    from srinit.observer import Silent

    folder = tmp_path_factory.mktemp("digits")
    data = load_digits()
    images = (data.images * (255 / 16)).round().astype(np.uint8)[..., None]
    labels = data.target.astype(np.int64)
    names = np.array([str(digit) for digit in range(10)])
    for name, part in (("train", slice(0, 600)), ("rest", slice(600, 1300))):
        np.savez(
            folder / f"{name}.npz", images=images[part], labels=labels[part], class_names=names
        )
    model = train(images[:600], labels[:600], seed=0, observer=Silent())
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "digits.safetensors"
    )
    (folder / "model.py").write_text((ROOT / "src/srinit/demo/model.py").read_text())
    config = (ROOT / "src/srinit/demo/srinit.yaml").read_text()
    config = config.replace("epochs: 8", "epochs: 1")
    lax = "gates:\n  max_class_recall_drop: null\n"  # what is cut here is not to be good
    (folder / "srinit.yaml").write_text(config.replace("gates:\n", lax))
    return folder


@pytest.fixture(scope="session")
def finished_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run of the project of `parts_project`, which no test may change."""
    import parts_project

    return parts_project.finished(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; tests that need it skip without (`test_report_browser.pytestmark`)."""
    import report_browser

    with report_browser.browser() as found:
        yield found


@pytest.fixture(scope="module")
def report_input() -> ReportInput:
    """The kept run, as the report reads it."""
    from report_run import RUN
    from srinit.report import load_report_input

    return load_report_input(RUN)


@pytest.fixture(scope="module")
def url(report_input: ReportInput, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of its page."""
    from srinit.report import write_report

    return write_report(report_input, tmp_path_factory.mktemp("report")).as_uri()
