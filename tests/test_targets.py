"""Targets in combination, and trainings of the user's own that fail, through the command line."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from srinit import cli
from srinit.errors import ConfigError, ModelError, PlanError

QUICK = (
    "scan.scheme=permuted", "scan.half_width=0.3", "finetune.epochs=0", "report.pictures=0",
    "compare.latency_batches=[1]", "baseline.expected_top1=null", "plan.trial_examples=0",
)  # fmt: skip
UNITS = 8


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = cli.run([*arguments, "--json"])
    found = capsys.readouterr()
    assert "Traceback" not in found.err
    return code, json.loads(found.out)


def sets(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("--set", pair)]


@pytest.fixture(scope="module")
def scanned(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    command = ["scan", "-c", str(digits / "srinit.yaml"), "--out", str(out), *sets(*QUICK)]
    assert cli.run([*command, "--json"]) == 0
    return out / "digits"


@pytest.fixture
def run(scanned: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scanned, tmp_path / "digits"))


def left(plan: Any, name: str) -> float:
    """Return what the plan leaves, as a share of the unpruned network."""
    costs = [
        prefix["latency_ms"]["1"] if name == "latency" else prefix[name]
        for prefix in plan["prefixes"]
    ]
    return float(costs[len(plan["remove"])] / costs[0])


@pytest.mark.parametrize(
    "wanted",
    [
        {"params": 0.8, "flops": 0.6},
        {"flops": 0.9, "latency": 0.9},
        {"params": 0.9, "flops": 0.9, "latency": 0.95, "max_drop": 0.95},
    ],
)
def test_every_target_of_a_combination_is_met_and_every_prefix_is_listed(
    run: Path, capsys: pytest.CaptureFixture[str], wanted: dict[str, float]
) -> None:
    options = [
        part
        for name, value in wanted.items()
        for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    code, body = call(capsys, "plan", str(run), *options)
    assert code == 0
    plan = body["plan"]
    assert len(plan["prefixes"]) == len(plan["ranking"]) + 1 == UNITS + 1
    assert [prefix["num_removed"] for prefix in plan["prefixes"]] == list(range(UNITS + 1))
    assert all(prefix["latency_ms"]["1"] > 0 for prefix in plan["prefixes"])
    params = [prefix["params"] for prefix in plan["prefixes"]]
    assert params == sorted(params, reverse=True)
    for name in wanted.keys() - {"max_drop"}:
        assert left(plan, name) <= wanted[name]
    shorter = {**plan, "remove": plan["remove"][:-1]}
    assert any(left(shorter, name) > wanted[name] for name in wanted.keys() - {"max_drop"})


def test_named_units_count_towards_the_budget_and_protected_ones_stay(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, body = call(capsys, "plan", str(run), "--flops", "0.7")
    first, *_, last = body["plan"]["ranking"]
    code, body = call(capsys, "plan", str(run), "--flops", "0.8", "--remove", last)
    assert code == 0
    gone = [removal["unit"]["name"] for removal in body["plan"]["remove"]]
    assert gone[0] == last
    assert left(body["plan"], "flops") <= 0.8
    protect = sets(f"units.keep=['{first}']")  # only after the scan
    code, body = call(capsys, "plan", str(run), "--flops", "0.8", *protect)
    assert code == 0
    assert first not in body["plan"]["ranking"]
    assert len(body["plan"]["prefixes"]) == len(body["plan"]["ranking"]) + 1
    code, body = call(capsys, "plan", str(run), "--remove", first, *protect)
    assert code == PlanError.exit_code
    assert f"{first!r} is also in units.keep" in body["error"]["message"]
    code, body = call(capsys, "plan", str(run), "--flops", "0.8", *sets("units.keep=[nothing]"))
    assert code == ConfigError.exit_code
    assert "units.keep names no submodule" in body["error"]["message"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--flops", "0.01"), "flops can go down to "),
        (("--latency", "0.001"), "ms (0."),
        (("--flops", "0.6", "--max-drop", "-0.9"), "within max_drop=-0.9"),
        (("--remove", "nothere"), "there is no unit 'nothere' (nearest: "),
    ],
)
def test_a_target_that_cannot_be_met_says_what_can_and_the_scan_stays(
    run: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    before = (run / "scan/sensitivity.json").read_bytes()
    code, body = call(capsys, "plan", str(run), *options)
    assert code == PlanError.exit_code == 2
    assert message in body["error"]["message"]
    assert (run / "scan/sensitivity.json").read_bytes() == before


def hashes(run: Path) -> dict[str, str]:
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in run.rglob("*")
        if path.is_file() and path.suffix in (".json", ".safetensors", ".npz", ".csv")
    }


def test_a_training_of_your_own_that_fails_leaves_what_was_before_and_can_be_mended(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(capsys, "plan", str(run), "--flops", "0.8")[0] == 0
    assert call(capsys, "prune", str(run))[0] == 0
    before = hashes(run)
    misfit = tmp_path / "misfit.py"
    misfit.write_text(
        "import sys, numpy\nfrom safetensors.numpy import load_file, save_file\n"
        "state = load_file(sys.argv[1])\nname = sorted(state)[0]\n"
        "state[name] = numpy.zeros((3, 3), numpy.float32)\nsave_file(state, sys.argv[2])\n"
    )
    copy = tmp_path / "same.py"
    copy.write_text("import shutil, sys\nshutil.copyfile(*sys.argv[1:])\n")
    for command, message in (
        ("false {weights} {out}", "exit code 1, and printed nothing"),
        ("true {weights} {out}", "ended well but wrote no "),
        ("nosuchprogram {weights} {out}", "could not run"),
        (f"{sys.executable} {misfit} {{weights}} {{out}}", "what finetune.command wrote"),
    ):
        wanted = sets(f"finetune.command='{command}'")
        code, body = call(capsys, "finetune", str(run), *wanted)
        assert code == ModelError.exit_code == 4
        assert message in body["error"]["message"]
        after = hashes(run)
        what_was_asked = {"overrides.json"}  # is on record, whatever came of it
        kept = before.keys() - what_was_asked
        assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
        assert not (run / "rounds/01/tune.json").exists()
    good = sets(f"finetune.command='{sys.executable} {copy} {{weights}} {{out}}'")
    code, body = call(capsys, "finetune", str(run), *good)
    assert (code, body["tune"]["stopped"]) == (0, "user")
    after = hashes(run)
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("gates.max_class_recall_drop={'11': 0.5}",), "there is no class '11'"),
        (("gates.max_class_recall_drop=0.01",), "it needs 381 even if no prediction changes"),
        (("data.costs={'3': {'33': 5}}",), "data.costs '33' is not one of the classes"),
        (("data.defect_class=['1', scratch]",), "data.defect_class 'scratch' is not one of"),
        (("finetune.patience=2", "data.split={calibration: 0.5, test: 0.5}"),
         "this needs validation data"),
    ],
)  # fmt: skip
def test_what_can_never_work_is_named_before_anything_is_measured(
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: tuple[str, ...],
    message: str,
) -> None:
    config = str(digits / "srinit.yaml")
    code, body = call(capsys, "run", "-c", config, "--out", str(tmp_path), *sets(*changes))
    assert code == ConfigError.exit_code == 2
    assert message in body["error"]["message"]
    assert not list(tmp_path.glob("*/baseline/*"))
