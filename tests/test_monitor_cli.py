"""`srinit monitor` as people use it: folders in any order, logs that grow, a page, the cause."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from parts_project import call, copied
from srinit.monitor import LogWriter, Observations
from srinit.operations.observe import from_arrays, order_of
from srinit.sources import load_data

SMALL = ("--set", "monitor.window=60")
START = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture(scope="module")
def run(finished_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a finished run, watched by the tests of this file one after the other."""
    return copied(finished_parts, tmp_path_factory.mktemp("monitored") / "runs")


@pytest.fixture(scope="module")
def day(run: Path, finished_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A day's production as files, class by class."""
    rest = np.load(finished_parts.parent.parent / "rest.npz")
    folder = tmp_path_factory.mktemp("day")
    for number, (pixels, label) in enumerate(zip(rest["images"], rest["labels"], strict=True)):
        place = folder / "abc"[label]
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels[..., 0]).save(place / f"{number:03d}.png")
    return folder


def baseline(run: Path) -> Observations:
    """What the first test has observed."""
    return from_arrays(dict(np.load(run.with_name("parts.after") / "baseline.npz")))


def weights(run: Path) -> str:
    return str(json.loads((run / "rounds/01/recipe.json").read_text())["weights_sha256"])


def write(
    log: Path, run: Path, seen: Observations, first: int, count: int, *, light: float = 1.0
) -> None:
    random = np.random.default_rng(first)
    with LogWriter(log, model=weights(run)) as writer:
        for number in range(first, first + count):
            row = int(random.integers(len(seen)))
            assert seen.brightness is not None
            writer.write(
                image=f"i{number}", prediction="abc"[seen.prediction[row]],
                confidence=float(seen.confidence[row]), latency_ms=1.0,
                brightness=light * float(seen.brightness[row]),
                time=START + timedelta(seconds=number),
            )  # fmt: skip


def test_a_day_whose_files_come_class_by_class_is_no_alarm(
    run: Path, day: Path, capsys: Any
) -> None:
    shutil.copy(day / "a" / next(iter((day / "a").iterdir())).name, day / "a" / "twice.png")
    code, body = call(capsys, "monitor", run, "--data", f"folder:{day}", *SMALL)
    assert (code, body["alarm"], body["order"], body["doubled"]) == (0, False, "content", 1)
    assert body["watch"]["examples_left"] == body["num_examples"] % 60


def test_images_are_taken_in_the_order_in_which_they_were_taken(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    moments = random.permutation(12)
    for number, moment in enumerate(moments):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        image = Image.fromarray(random.integers(0, 255, (8, 8, 3), dtype=np.uint8))
        exif = image.getexif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = (
            f"2026:11:24 08:00:{moment:02d}"
        )
        image.save(tmp_path / "ab"[number % 2] / f"{number:02d}.jpg", exif=exif)
    data = load_data(f"folder:{tmp_path}")
    positions, order = order_of(data)
    taken = [int(moments[int(Path(data.names[p]).stem)]) for p in positions]
    assert (taken, order) == (list(range(12)), "time")
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "bare.jpg")
    data = load_data(f"folder:{tmp_path}")
    positions, order = order_of(data, 1)
    assert (order, sorted(positions)) == ("content", list(range(13)))
    assert positions == order_of(data, 1)[0] != order_of(data, 2)[0]


def test_a_dark_lamp_is_the_light_and_no_reason_to_go_back(
    run: Path, day: Path, tmp_path: Path, capsys: Any
) -> None:
    if not (run.with_name("parts.after") / "baseline.npz").is_file():
        assert call(capsys, "monitor", run, "--data", f"folder:{day}", *SMALL)[0] == 0
    seen = baseline(run)
    log, page = tmp_path / "preds.jsonl", tmp_path / "page.html"
    write(log, run, seen, 0, 130, light=0.5)
    code, body = call(
        capsys, "monitor", run, "--log", log, "--auto-rollback", "--report", page, *SMALL
    )
    assert (code, body["diagnosis"]["cause"], body["rollback"]) == (3, "light", "")
    assert body["rolled_back"] is None
    assert "the version before would see the same" in body["rollback_failed"]
    assert (body["watch"]["examples_left"], body["lines"]["used"]) == (10, 130)
    html = page.read_text("utf-8")
    assert "Probable cause: the light" in html
    assert "考えられる原因：照明" in html
    assert html.count("class=plot") >= 4
    assert "http" not in html.replace("http-equiv", "")


def test_a_log_that_grows_is_followed_from_where_it_was(
    run: Path, tmp_path: Path, capsys: Any
) -> None:
    log = tmp_path / "preds.jsonl"
    command = ("monitor", run, "--follow", log, "--once", *SMALL)
    assert call(capsys, *command)[0] == 0  # there is no log yet
    seen = baseline(run)
    write(log, run, seen, 0, 150)
    code, body = call(capsys, *command)
    assert (code, len(body["watch"]["windows"]), body["watch"]["examples_left"]) == (0, 2, 30)
    whole = log.read_bytes()
    log.write_bytes(whole + whole[-200:-1])  # a line that is being written
    code, body = call(capsys, *command)
    assert (code, len(body["watch"]["windows"]), body["lines"]["lines"]) == (0, 0, 150)
    log.write_bytes(whole)
    write(log, run, seen, 150, 100, light=0.5)
    code, body = call(capsys, *command)
    assert (code, body["watch"]["windows_before"], body["num_examples"]) == (3, 2, 250)
    assert body["diagnosis"]["cause"] == "light"
    assert call(capsys, *command)[0] == 3  # nothing new, and the lamp is still dark
    log.unlink()  # rotated: the new file begins anew, what was known stays
    write(log, run, seen, 1000, 120)
    code, body = call(capsys, *command)
    assert (code, body["watch"]["windows_before"], body["lines"]["used"]) == (0, 4, 370)
    assert call(capsys, "verify", run)[0] == 0
    place = next(run.with_name("parts.after").glob("following-*.json"))
    place.write_text("{")
    code, body = call(capsys, *command)
    assert (code, "delete it to follow the log" in body["error"]["message"]) == (4, True)
