"""Many networks: one table of many runs, and the workflow that makes it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from srinit import records
from srinit.comparison import Drop
from srinit.records import Interval
from srinit.runs.result import RunResult

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "many_networks"
FOUND = RunResult(
    run="runs/press/press", passed=True, removed=("a",), score_cut=0.5,
    score=Drop(
        value=0.005, low=-0.01, high=0.02, confidence=0.95, baseline=0.99, pruned=0.985,
        num_examples=400,
    ),
    params=(1000, 600), flops=(10, 6), latency_ms={"32": (9.0, 6.0), "1": (1.0, 0.5)},
    latency_ratio={
        "32": Interval(value=0.66, low=0.6, high=0.7, confidence=0.95),
        "1": Interval(value=0.5, low=0.4, high=0.6, confidence=0.95),
    },
)  # fmt: skip
FAILED = replace(FOUND, passed=False, failed_gates=("loss | too large",))


def said(result: RunResult) -> str:
    return json.dumps({"verb": "run", "ok": result.passed, **records.plain(result)})


def test_the_table_says_of_every_run_what_it_printed(tmp_path: Path) -> None:
    for name, result in (("weld", FAILED), ("press", FOUND)):
        (tmp_path / f"{name}.json").write_text(said(result))
    files = sorted(tmp_path.glob("*.json"), reverse=True)
    done = subprocess.run(
        [sys.executable, EXAMPLE / "table.py", "--csv", tmp_path / "t.csv", "--md",
         tmp_path / "t.md", *files],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (tmp_path / "t.csv").open(newline="") as file:
        press, weld = csv.DictReader(file)
    assert (press["network"], weld["network"]) == ("press", "weld")
    assert (press["latency before, ms"], press["times as fast"]) == ("1.0", "2.0")
    assert (press["gates"], weld["gates"], weld["why"]) == ("passed", "FAILED", "loss | too large")
    lines = (tmp_path / "t.md").read_text().splitlines()
    assert lines[2] == (
        "| press | 99.0 → 98.5 % | +0.5 (-1.0 to +2.0) points | -40 % | "
        "1.00 → 0.50, 2.00 times as fast | passed |  |"
    )
    assert lines[3].endswith(r"| FAILED | loss \| too large |")


FAKE = """#!{python}
import os, sys
from pathlib import Path
name = Path(sys.argv[sys.argv.index("-c") + 1]).parent.name
assert sys.argv[1] == "run" and "--json" in sys.argv
with open("called", "a") as file:
    file.write(name + "\\n")
if name == "broken" and not Path("mended").exists():
    sys.exit("error: no labels")
print({said!r} if name == "press" else {failed!r})
sys.exit(0 if name == "press" else 3)
"""


def test_the_workflow_goes_on_where_it_stopped_and_ends_with_one_table(tmp_path: Path) -> None:
    found = shutil.which("snakemake")
    if found is None:
        pytest.skip("snakemake is not installed; it is no dependency of srinit")
    for file in ("Snakefile", "table.py"):
        shutil.copy(EXAMPLE / file, tmp_path)
    for name in ("press", "weld", "broken"):
        (tmp_path / "networks" / name).mkdir(parents=True)
        (tmp_path / "networks" / name / "srinit.yaml").write_text(f"name: {name}\n")
    fake = tmp_path / "bin" / "srinit"
    fake.parent.mkdir()
    fake.write_text(FAKE.format(python=sys.executable, said=said(FOUND), failed=said(FAILED)))
    fake.chmod(0o755)

    def run(*arguments: str) -> int:
        own = f"{fake.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            [found, "--cores", "1", *arguments], cwd=tmp_path, env={**os.environ, "PATH": own},
            capture_output=True,
        ).returncode  # fmt: skip

    assert run("--keep-going") == 1
    called = (tmp_path / "called").read_text().split()
    assert sorted(called) == ["broken", "press", "weld"]
    assert "no labels" in (tmp_path / "logs" / "broken.log").read_text()
    assert not (tmp_path / "table.md").exists()
    assert run("so_far") == 0
    assert len((tmp_path / "so_far.md").read_text().splitlines()) == 4
    (tmp_path / "mended").touch()
    assert run("--keep-going") == 0
    assert (tmp_path / "called").read_text().split()[3:] == ["broken"]  # the others are finished
    assert len((tmp_path / "table.md").read_text().splitlines()) == 5
