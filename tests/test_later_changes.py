"""Settings that change after work was done: what is there is used, and no more is redone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parts_project import CONFIG, call, content, copied, make
from srinit.store import RunFolder, audit

SCAN = CONFIG.replace("half_width: 0.3", "half_width: 0.1, precision: decide").replace(
    "split:", "batch_size: 16\n  split:"
)


def killed(run: Path, *, lines: int) -> bytes:
    """Leave a scan as a kill would after so many lines of its journal; return those."""
    RunFolder(run).forget(lambda name: name.startswith("scan/"))
    for name in ("sensitivity.json", "sensitivity.csv"):
        (run / "scan" / name).unlink()
    journal = run / "scan" / "observations.jsonl"
    kept = b"".join(journal.read_bytes().splitlines(keepends=True)[:lines])
    journal.write_bytes(kept + b'{"batch": 3, "uni')
    return kept


@pytest.mark.parametrize(
    ("config", "target"),
    [(SCAN, "plan.flops=0.5"), (SCAN.replace(", precision: decide", ""), "plan.max_drop=0.05")],
)
def test_a_scan_that_was_killed_goes_on_for_another_target(
    tmp_path: Path, capsys: Any, config: str, target: str
) -> None:
    path, out = make(tmp_path, config), tmp_path / "runs"
    assert call(capsys, "scan", "-c", path, "--out", out)[0] == 0
    run = out / "parts"
    kept = killed(run, lines=2)
    code, body = call(capsys, "scan", "-c", path, "--out", out, "--set", target)
    assert (code, body.get("run")) == (0, str(run)), body
    assert (run / "scan" / "observations.jsonl").read_bytes().startswith(kept)
    assert not (run / "superseded").exists()
    changes = json.loads((run / "overrides.json").read_bytes())["changes"]
    assert [change["key"] for change in changes] == [target.partition("=")[0]]
    again = json.loads((run / "scan" / "sensitivity.json").read_bytes())
    assert again["num_examples"] > 16
    if "max_drop" in target:
        assert again["max_drop"] == 0.05


def test_a_protected_unit_may_go_once_its_protection_is_taken_back(
    tmp_path: Path, capsys: Any
) -> None:
    config, out = make(tmp_path), tmp_path / "runs"
    keep = "units.keep=[stage2.*]"
    assert call(capsys, "scan", "-c", config, "--out", out, "--set", keep)[0] == 0
    run = out / "parts"
    code, body = call(capsys, "plan", run, "--remove", "stage2.0")
    assert (code, "stage2.0' is locked (kept)" in body["error"]["message"]) == (2, True)
    free = ("--set", "units.keep=[stage2.1]")
    code, body = call(capsys, "plan", run, "--remove", "stage2.0", *free, "--dry-run")
    assert (code, "units (units.keep taken back)" in " ".join(body["changes"])) == (0, True), body
    code, body = call(capsys, "plan", run, "--remove", "stage2.0", *free)
    assert (code, body["plan"]["target"]) == (0, {"remove": ["stage2.0"]}), body
    units = json.loads((run / "units.json").read_bytes())
    assert {unit["name"] for unit in units["locked"] if unit["reason"] == "kept"} == {"stage2.1"}
    # What was protected after the scan is no lock of its units, and costs no new scan.
    before = (run / "scan" / "sensitivity.json").read_bytes()
    for more in ("[stage2.1, stage2.2]", "[stage2.1]"):
        assert call(capsys, "plan", run, "--set", f"units.keep={more}")[0] == 0
    assert (run / "scan" / "sensitivity.json").read_bytes() == before


def test_other_batch_sizes_are_timed_and_nothing_else_is_done_again(
    finished_parts: Path, tmp_path: Path, capsys: Any
) -> None:
    own = copied(finished_parts, tmp_path / "runs")
    before = content(own)
    code, body = call(capsys, "compare", own, "--set", "compare.latency_batches=[1, 2]")
    assert code == 0, body
    made = Path(body["run"])
    same = ("plan.json", "rounds/01/metrics.json", "rounds/01/tune.json", "rounds/01/recipe.json")
    for name in (*same, "rounds/01/predictions.npz", "scan/sensitivity.json"):
        assert (made / name).read_bytes() == before[name], name
    log = [entry["verb"] for entry in audit.read(made / "audit.jsonl").entries]
    assert not {"scan", "plan", "prune", "finetune"} & set(log)
    times = json.loads((made / "plan_latency.json").read_bytes())["latency_ms"]
    assert all(set(each) == {"1", "2"} for each in times)
    assert {row["baseline"]["batch_size"] for row in body["comparison"]["latency"]} == {1, 2}
    reads = [e for e in audit.read(own.parent / "readings.jsonl").entries if e["verb"] == "read"]
    assert [entry["inputs"]["run"] for entry in reads] == ["parts"]  # the answers are those kept
