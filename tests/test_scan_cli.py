"""`srinit scan` as a command: killed and resumed, on two processes, and its estimate of time."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import processes
from srinit.config import load_config
from srinit.observer import Silent
from srinit.pipeline import estimate, start
from srinit.runs import artifacts

MODEL = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(x + self.norm(self.conv(x)))


class Net(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(4)))
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        return self.head(self.blocks(torch.relu(self.stem(x))).mean((2, 3)))


def net():
    return Net()
"""

CONFIG = """
name: small
model: {source: "py:model.py:net", weights: weights.safetensors}
data:
  source: "npz:data.npz"
  split: {calibration: 0.7, validation: 0.15, test: 0.15}
  preprocess: {channels: 1, mean: [0.5], std: [0.5]}
scan: {scheme: keep_norm, half_width: 0.05}
device: cpu
"""


LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a network whose answers depend on its blocks (its own, with noise)."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "model.py").write_text(MODEL)
    (folder / "srinit.yaml").write_text(CONFIG)
    space: dict[str, object] = {}
    exec(MODEL, space)
    noise = torch.Generator().manual_seed(3)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        model = space["net"]()  # type: ignore[operator]
    images = torch.randint(0, 256, (2600, 12, 12, 1), generator=noise, dtype=torch.uint8)
    with torch.no_grad():
        x = (images.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
        model.train()
        model(x)  # statistics of the normalization
        model.eval()
        logits = model(x)
        model.head.bias -= logits.mean(0)
        model.head.weight *= 4 / logits.std(0).mean()
        model.head.bias *= 4 / logits.std(0).mean()
        target = model(x).argmax(1)
    target[::10] = (target[::10] + 1) % 4
    np.savez(
        folder / "data.npz", images=images.numpy(), labels=target.numpy(),
        class_names=np.array(list("abcd")),
    )  # fmt: skip
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    return folder


def command(project: Path, out: Path) -> list[str]:
    return ["-m", "srinit", "scan", "-c", str(project / "srinit.yaml"), "--out", str(out), "--json"]


def scan(project: Path, out: Path, *launcher: str) -> subprocess.CompletedProcess[str]:
    return processes.run(*launcher, *command(project, out))


def files(out: Path) -> tuple[bytes, bytes]:
    folders = [path.parent for path in out.glob("*/run.json")]
    assert len(folders) == 1, "one run folder for all processes and attempts"
    scanned = folders[0] / "scan"
    return (scanned / "sensitivity.json").read_bytes(), (
        scanned / "observations.jsonl"
    ).read_bytes()


@pytest.fixture(scope="module")
def whole(project: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The files of a scan that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    done = scan(project, out)
    assert done.returncode == 0, done.stderr
    found = files(out)
    assert found[1].count(b"\n") > 6
    return found


@pytest.mark.slow
def test_scan_killed_at_random_moments_ends_with_the_same_bytes(
    project: Path, whole: tuple[bytes, bytes], tmp_path: Path
) -> None:
    moments = random.Random(5)
    killed = 0
    for _ in range(4):
        process = processes.Command(*command(project, tmp_path))
        lines = moments.randint(1, 3) + _lines(tmp_path)
        while process.poll() is None and _lines(tmp_path) < lines:
            time.sleep(0.002)
        time.sleep(moments.random() * 0.05)  # between lines too
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed >= 2
    assert scan(project, tmp_path).returncode == 0
    assert files(tmp_path) == whole


def _lines(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob("*/scan/observations.jsonl"))


@pytest.mark.slow
def test_torchrun_with_two_processes_gives_the_scan_of_one(
    project: Path, whole: tuple[bytes, bytes], tmp_path: Path
) -> None:
    done = scan(project, tmp_path, *LAUNCHER)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"]  # one document, from rank 0 alone
    assert files(tmp_path) == whole
    again = processes.run_ranks(2, *command(project, tmp_path))
    for rank in again:  # finished: nothing to measure, nobody waits
        assert rank.returncode == 0, rank.stderr
    assert files(tmp_path) == whole


@pytest.mark.slow
def test_rank_that_dies_ends_the_command_and_the_next_one_resumes(
    project: Path, whole: tuple[bytes, bytes], tmp_path: Path
) -> None:
    killer = tmp_path / "dies.py"
    killer.write_text(
        "import os, sys\n"
        "from srinit import cli\n"
        "from srinit.sensitivity import streaming\n"
        "apply, seen = streaming.StreamingScan._apply, []\n"
        "def dies(self, line):\n"
        "    seen.append(1)\n"
        "    if os.environ['RANK'] == '1' and len(seen) == 5:\n"
        "        os._exit(9)\n"
        "    return apply(self, line)\n"
        "streaming.StreamingScan._apply = dies\n"
        "sys.exit(cli.run(sys.argv[1:]))\n"
    )
    out = tmp_path / "runs"
    _, _, *arguments = command(project, out)
    died = processes.run_ranks(2, str(killer), *arguments)
    assert died[1].returncode == 9
    assert died[0].returncode != 0
    assert 1 < _lines(out) < whole[1].count(b"\n")
    assert scan(project, out).returncode == 0
    assert files(out) == whole


@pytest.mark.slow
def test_dry_run_estimates_the_time_within_a_factor_of_two(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "perf_counter", time.process_time)  # others may keep the machine busy
    overrides = ["scan.half_width=0.02", f"out={tmp_path / 'runs'}"]
    ratios = []
    for attempt in range(3):  # the machine may have been busy during one of the two
        config = load_config(project / "srinit.yaml", [*overrides, f"seed={attempt}"])
        guess = estimate.whole_run(config)["seconds"]["scan"]
        assert not (tmp_path / "runs").exists() or attempt
        began = time.perf_counter()
        with start.create_run_of(config, Silent()) as runner:
            found = runner.get(artifacts.SENSITIVITY)
        assert found.stopped_by in ("precision", "data")
        ratios.append(guess / (time.perf_counter() - began))
        if 0.5 <= ratios[-1] <= 2:
            return
    pytest.fail(f"estimates over times: {ratios}")
