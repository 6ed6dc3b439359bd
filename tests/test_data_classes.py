"""What names a class is checked when the classes are known; sets are shared out class by class."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from class_project import CLASSES, config, make_project
from srinit import cli
from srinit.errors import DataError
from srinit.sources import DataSet, limited, split


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("brightness"), 8)


def failed(capsys: pytest.CaptureFixture[str], verb: str, path: Path) -> str:
    """Return the error of a verb."""
    assert cli.run([verb, "-c", str(path)]) not in (0, 1)
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("verb", ["inspect", "baseline"])
@pytest.mark.parametrize(
    "sections",
    [
        {"gates": {"max_class_recall_drop": {"lihgt": 0.1}}},
        {"gates": {"max_missed_defect_increase": {"lihgt": 0.1}},
         "data": {"defect_class": ["light", "white"]}},
        {"data": {"defect_class": "lihgt"}},
        {"data": {"costs": {"lihgt": {"dark": 3}}}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("listed", [True, False])
def test_a_misspelt_class_is_named_before_any_work(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    sections: dict[str, Any],
    listed: bool,
) -> None:
    path = config(project, **sections)
    if not listed:
        body = path.read_text("utf-8")
        path.write_text(body.replace(f'"classes": {list(CLASSES)}'.replace("'", '"') + ",", ""))
    message = failed(capsys, verb, path)
    assert "'lihgt'" in message
    assert "did you mean 'light'" in message


def test_a_source_that_lacks_a_class_is_blamed_itself(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(project, tmp_path / "p")
    make_project(tmp_path / "q", 3)
    for file in (tmp_path / "q" / "data").rglob("*.png"):  # other images than those of the source
        file.write_bytes(file.read_bytes() + b"\0")
    shutil.move(tmp_path / "q" / "data", tmp_path / "p" / "held")
    shutil.rmtree(tmp_path / "p" / "data" / "dim")
    shares = {"calibration": 0.5, "validation": 0.5}
    data = {"classes": None, "test": "folder:held", "split": shares}
    message = failed(capsys, "inspect", config(tmp_path / "p", data=data))
    assert "data.source (folder:data) has 3 classes and data.test (folder:held) has 4" in message
    assert "data.source (folder:data) has no 'dim'" in message
    data = {"classes": None, "site": "folder:held"}
    message = failed(capsys, "inspect", config(tmp_path / "p", data=data))
    assert "do not match the 3 of data.source (folder:data)" in message
    assert "not expected: ['dim']" in message


@pytest.mark.parametrize(
    ("channels", "wanted"),
    [(1, "takes images of 1 channel and gets 3"), (3, "takes images of 3 channels and gets 1")],
)
def test_a_wrong_number_of_channels_names_the_key(
    project: Path, capsys: pytest.CaptureFixture[str], channels: int, wanted: str
) -> None:
    other = 3 if channels == 1 else 1
    plain = {"channels": other, "mean": [0] * other, "std": [1] * other}
    path = config(
        project,
        model={"args": {"channels": channels}},
        data={"preprocess": plain},
    )
    for verb in ("inspect", "baseline", "scan"):
        message = failed(capsys, verb, path)
        assert wanted in message
        assert f"Write data.preprocess.channels: {channels}" in message


def some(counts: list[int], seed: int = 0) -> DataSet:
    """Return different images of so many a class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 4, 4), dtype=np.uint8)
    return of_arrays(images, labels)


def of_arrays(images: np.ndarray, labels: np.ndarray) -> DataSet:
    from srinit.sources.examples import PixelArrays
    from srinit.sources.pool import Pool
    from srinit.sources.preprocess import Preprocess

    names = [f"c{index}" for index in range(labels.max() + 1)]
    rows = [str(index) for index in range(len(labels))]
    pool = Pool("arrays", PixelArrays(images, rows, labels), names, Preprocess())
    return DataSet(pool, tuple(range(len(labels))))


SHARES = {"train": 0.4, "calibration": 0.2, "validation": 0.1, "test": 0.3}


@pytest.mark.parametrize("counts", [[70] * 10, [3] * 100, [500, 7, 31]])
def test_every_class_is_shared_out_alike_to_one_image(counts: list[int]) -> None:
    parts = split(some(counts), SHARES, seed=0)
    assert sum(map(len, parts.values())) == sum(counts)
    for name, part in parts.items():
        for count, found in zip(counts, part.class_counts.values(), strict=True):
            assert abs(found - SHARES[name] * count) < 1
        assert abs(len(part) - SHARES[name] * sum(counts)) <= 3


def test_a_split_hangs_on_content_and_moves_little_when_images_come() -> None:
    data = some([60, 60])
    turned = data.subset(list(range(len(data)))[::-1])
    first, again = (split(each, SHARES, seed=3) for each in (data, turned))
    assert {k: set(v.ids) for k, v in first.items()} == {k: set(v.ids) for k, v in again.items()}
    other = split(data, SHARES, seed=4)
    assert set(other["test"].ids) != set(first["test"].ids)
    more = split(data.subset([i for i in range(len(data)) if i not in (3, 77)]), SHARES, seed=3)
    side = {content: name for name, part in first.items() for content in part.ids}
    moved = sum(side[content] != name for name, part in more.items() for content in part.ids)
    assert moved <= 8


def test_equal_images_stay_together_whatever_their_labels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8)
    twice = np.concatenate([images, images, images[:5]])
    labels = np.concatenate([np.repeat([0, 1], 10), np.repeat([0, 1], 10), np.ones(5, dtype=int)])
    parts = split(of_arrays(twice, labels), {"train": 0.5, "test": 0.5}, seed=1)
    assert not set(parts["train"].ids) & set(parts["test"].ids)
    assert sum(map(len, parts.values())) == 45


def test_a_limit_takes_the_same_share_of_every_class_and_grows_by_adding() -> None:
    data = some([100] * 10)
    small, large = limited(data, 50, seed=0), limited(data, 105, seed=0)
    assert set(small.class_counts.values()) == {5}
    assert set(large.class_counts.values()) <= {10, 11}
    assert set(small.indices) <= set(large.indices)
    uneven = limited(some([900, 100]), 50, seed=0)
    assert Counter(uneven.targets.tolist()) == {0: 45, 1: 5}


def test_examples_without_classes_are_shared_out_too() -> None:
    images = np.random.default_rng(0).integers(0, 256, (100, 4, 4), dtype=np.uint8)
    data = of_arrays(images, np.zeros(100, dtype=int))
    data.pool.relabel([], np.zeros(0, dtype=np.int64))
    assert {name: len(part) for name, part in split(data, SHARES, seed=0).items()} == {
        "train": 40, "calibration": 20, "validation": 10, "test": 30,
    }  # fmt: skip


def test_classes_in_another_order_are_told_as_such(tmp_path: Path) -> None:
    from srinit.sources.agreement import check_classes

    one, other = some([2, 2]), some([2, 2], seed=1)
    other.pool.class_names = ("c1", "c0")
    with pytest.raises(DataError, match="same classes in another order"):
        check_classes({"train": one, "test": other}, {})
