"""A run of two processes that is killed twice leaves the files of a run of one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import processes
from srinit.store import RunFolder

DIES = """

import os
import threading
from pathlib import Path


class Mortal(DigitNet):
    def forward(self, x):
        at, main = os.environ.get("DIES", ""), threading.main_thread()
        if at and os.environ.get("RANK") == "1":
            tuned = any(Path(os.environ["RUNS"]).glob("*/rounds/01/tune.json"))
            walks = threading.current_thread() is not main  # as compensation does, in lockstep
            if walks if at == "prune" else tuned:
                os._exit(9)
        return super().forward(x)
"""

SETTINGS = (
    "model.source=py:model.py:Mortal", "plan.remove=[stage2.3]", "plan.flops=null",
    "plan.trial_examples=40", "plan.beside=[]", "scan.scheme=permuted", "scan.half_width=0.4",
    "data.batch_size=48", "compensate.examples=90", "finetune.epochs=0",
    "shift.examples=20", "shift.corruptions=[noise,brightness]", "shift.severities=[1,5]",
    "compare.latency_batches=[1]", "gates.max_drop=1.0", "export.onnx=false",
    "export.torch_export=false", "report.pictures=0", "device=cpu",
)  # fmt: skip
SAME = (
    "data.json", "units.json", "scan/*", "plan.json", "rounds/01/metrics.json",
    "rounds/01/cut/*", "rounds/01/*.safetensors", "rounds/01/tune.json",
    "rounds/01/predictions.npz", "rounds/01/shift.*", "rounds/01/gate.json",
)  # fmt: skip


def run(root: Path, out: Path, number: int) -> int:
    command = ["-m", "srinit", "run", "--json", "-c", str(root / "srinit.yaml"), "--out", str(out)]
    command += [part for text in SETTINGS for part in ("--set", text)]
    ended = [processes.run(*command)] if number == 1 else processes.run_ranks(number, *command)
    codes = [done.returncode for done in ended]
    assert 9 in codes or codes == [0] * number, ended[0].stderr[-3000:]
    return 9 if 9 in codes else 0


@pytest.mark.slow
def test_a_run_of_two_processes_killed_twice_leaves_the_files_of_one(
    tmp_path: Path, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    shutil.copytree(digits, root)
    (root / "model.py").write_text((root / "model.py").read_text() + DIES)
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(root, one, 1) == 0
    monkeypatch.setenv("RUNS", str(two))
    for step, made in (("prune", "plan.json"), ("compare", "rounds/01/tune.json"), ("", "")):
        monkeypatch.setenv("DIES", step)
        assert run(root, two, 2) == (9 if step else 0)
        assert (two / "digits" / made).exists()
    assert [path.name for path in two.iterdir() if path.is_dir()] == ["digits"]  # gone on with
    for pattern in SAME:
        files = sorted(one.glob(f"digits/{pattern}"))
        assert files, pattern
        for path in files:
            other = two / path.relative_to(one)
            assert path.read_bytes() == other.read_bytes(), path
    compared = [
        json.loads((out / "digits/rounds/01/comparison.json").read_text()) for out in (one, two)
    ]
    assert [each.pop("latency")[0]["baseline"]["batch_size"] for each in compared] == [1, 1]
    assert compared[0] == compared[1]
    choice = json.loads((two / "digits/rounds/01/metrics.json").read_text())["compensation"]
    assert choice["choice"]["solved"]
    assert RunFolder.open(two / "digits").verify() > 20
