"""Test data are known by content, whatever reads them, and every look is counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parts_project import CONFIG, call, copied, make
from srinit.custody import readings
from srinit.sources import load_data
from srinit.store import RunFolder, audit

APART = CONFIG.replace(
    "  source: npz:rest.npz\n  split: {calibration: 0.4, validation: 0.2, test: 0.4}\n",
    "  calibration: npz:one.npz\n  validation: npz:two.npz\n  test: npz:three.npz\n",
)


def shared_out(folder: Path, config: str) -> Path:
    """Write the project with a file for every set; return its config."""
    path = make(folder, config)
    with np.load(folder / "rest.npz") as rest:
        for name, rows in (("one", slice(0, 150)), ("two", slice(150, 220)), ("three", None)):
            rows = rows or slice(220, 400)
            part = {key: rest[key][rows] for key in ("images", "labels")}
            np.savez(folder / f"{name}.npz", **part, class_names=rest["class_names"])
    return path


@pytest.fixture
def tuned(tmp_path: Path, capsys: Any) -> Path:
    """A run that is trained, and was not compared."""
    config = shared_out(tmp_path, APART)
    assert call(capsys, "scan", "-c", config, "--out", tmp_path / "runs")[0] == 0
    assert call(capsys, "finetune", tmp_path / "runs" / "parts")[0] == 0
    return tmp_path / "runs" / "parts"


def earlier(run: Path) -> list[tuple[str, str, int]]:
    """Return who read the test data of a run before, how, and how many of them."""
    found = json.loads((run / "rounds/01/readings.json").read_bytes())["earlier"]
    return [(each["run"], each["how"], each["shared"]) for each in found]


def test_a_look_at_the_test_data_by_another_name_is_a_reading(
    tuned: Path, tmp_path: Path, capsys: Any
) -> None:
    from srinit import cli

    with np.load(tmp_path / "three.npz") as three:
        images, labels, names = (three[key] for key in ("images", "labels", "class_names"))
    order = np.random.default_rng(0).permutation(len(labels))[:40]  # some of them, elsewhere
    elsewhere = tmp_path / "elsewhere.npz"
    np.savez(elsewhere, images=images[order], labels=labels[order], class_names=names)
    distinct = len(set(load_data(f"npz:{elsewhere}").ids))
    capsys.readouterr()
    assert cli.run(["compare", str(tuned), "--data", f"npz:{elsewhere}"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"{distinct} of these 40 examples are test data of the run" in said
    code, body = call(capsys, "monitor", tuned, "--data", f"npz:{tmp_path / 'one.npz'}")
    assert code in (0, 2, 4), body  # too few for a watch; calibration data in any case
    code, body = call(capsys, "compare", tuned)
    assert code == 0, body
    assert earlier(tuned) == [("parts", "compare --data", distinct)]
    # Another run on those examples knows of the look and of the comparison, also once they are gone
    config = tmp_path / "srinit.yaml"
    out = ("--out", tuned.parent, "--set", "finetune.epochs=0", "--fresh")
    code, body = call(capsys, "run", "-c", config, *out)
    assert (code, body["test_readings"]) == (0, 2), body
    assert {how for _, how, _ in earlier(Path(body["run"]))} == {
        "compare --data", readings.OWN,
    }  # fmt: skip
    shutil.rmtree(tuned)
    shutil.rmtree(body["run"])
    code, body = call(capsys, "run", "-c", config, *out)
    assert (code, body["test_readings"]) == (0, 3), body
    assert "deleted since" in " ".join(
        each.words() for each in readings.find(
            Path(body["run"]), load_data(f"npz:{elsewhere}").ids, "", source=None
        ).earlier
    )  # fmt: skip


def test_the_site_s_data_are_read_and_a_run_that_begins_with_another_knows_it(
    finished_parts: Path, tmp_path: Path, capsys: Any
) -> None:
    own = copied(finished_parts, tmp_path / "runs")
    root = finished_parts.parents[1]
    site = ("--set", f"data.site=npz:{root / 'train.npz'}", "--set", "data.train=null")
    code, body = call(capsys, "compare", own, *site)
    assert code == 0, body
    ids = load_data(f"npz:{root / 'train.npz'}").ids
    assert call(capsys, "compare", own, own)[0] == 0
    entries = audit.read(own.parent / readings.LEDGER).entries
    how = [entry["inputs"].get("how") for entry in entries if entry["verb"] == "read"]
    assert how[-1] == "compare A B"
    found = readings.find(Path(body["run"]), ids, "").earlier
    assert [(each.how, each.shared) for each in found] == [("as data.site", len(set(ids)))]
    far = tmp_path / "far"
    far.mkdir()
    assert readings.find(far / "parts", ids, "").earlier == ()
    known = readings.find(far / "parts", ids, "", source=own).earlier
    assert [each.how for each in known] == ["as data.site"]


def test_many_examples_are_known_by_a_sample_of_their_hashes(tmp_path: Path) -> None:
    import hashlib

    ids = [hashlib.sha256(str(n).encode()).hexdigest()[:32] for n in range(20_000)]
    folder = RunFolder.create(tmp_path, "a", fill=lambda made: made.audit("begin", ""))
    readings.note_read(folder, ids, "all", "compare --data")
    assert (tmp_path / readings.LEDGER).stat().st_size < 32_000
    half = readings.find(tmp_path / "b", ids[10_000:] + [f"{n:032x}" for n in range(0)], "").earlier
    assert [each.shared for each in half] == [10_000]
    other = [hashlib.sha256(f"x{n}".encode()).hexdigest()[:32] for n in range(10_000)]
    mixed = readings.find(tmp_path / "b", ids[:10_000] + other, "").earlier
    assert [9_000 < each.shared < 11_000 for each in mixed] == [True]
    assert readings.find(tmp_path / "b", other, "").earlier == ()
