"""Two processes train as one does: shares without duplicates, equal weights, one writer."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import processes
from srinit.sources import load_data
from srinit.store import RunFolder

TRAINS = """
    import os, sys
    from pathlib import Path
    import torch
    from safetensors.torch import save_file
    from torch import nn
    from srinit.finetune import Recipe, fine_tune

    folder, kind = Path(sys.argv[1]), sys.argv[2]
    rank = int(os.environ.get("RANK", 0))
    torch.manual_seed(rank)  # ranks do not even begin with the same weights

    def task(seed, batches=5):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(batches * 24 - 11, 4, generator=generator)  # the last batch is short
        return [(part, part[:, :3].argmax(1)) for part in x.split(24)]

    class Net(nn.Sequential):
        def forward(self, x):
            seen.append(len(x)) if self.training else None
            return super().forward(x)

    seen = []
    norm = [nn.BatchNorm1d(16)] if kind == "norm" else []
    model = Net(nn.Linear(4, 16), *norm, nn.ReLU(), nn.Linear(16, 3))
    precision = "bfloat16" if kind == "mixed" else "float32"
    recipe = Recipe(epochs=12, lr=0.1, distill_weight=0.0, precision=precision, ema=0.9)
    state = folder / f"state{rank}.safetensors"
    written = []

    def progress(*_):
        written.append(state.exists())

    log = fine_tune(
        model, task(1), task(2), recipe=recipe, state=state, on_progress=progress
    )
    assert any(written) == (rank == 0), written
    (folder / f"seen{rank}").write_text(f"{sum(seen)} {log.score_after}")
    save_file(model.state_dict(), folder / f"rank{rank}.safetensors")
"""


def train(folder: Path, kind: str, ranks: int = 1) -> dict[str, torch.Tensor]:
    folder.mkdir()
    script = folder / "train.py"
    script.write_text(textwrap.dedent(TRAINS))
    command = (str(script), str(folder), kind)
    for done in [processes.run(*command)] if ranks == 1 else processes.run_ranks(ranks, *command):
        assert done.returncode == 0, done.stderr[-3000:]
    return load_file(folder / "rank0.safetensors")


def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    one = train(tmp_path / "one", "plain")
    two = train(tmp_path / "two", "plain", ranks=2)
    other = load_file(tmp_path / "two" / "rank1.safetensors")
    for name, value in one.items():
        assert torch.equal(two[name], other[name]), name
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)
    (n, score), (n0, score0), (n1, score1) = (
        (tmp_path / name).read_text().split() for name in ("one/seen0", "two/seen0", "two/seen1")
    )
    assert int(n0) + int(n1) == int(n)
    assert score0 == score1
    assert float(score0) == pytest.approx(float(score))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["norm", "mixed"])
def test_statistics_and_mixed_precision_come_close_to_one_process(
    tmp_path: Path, kind: str
) -> None:
    train(tmp_path / "one", kind)
    two = train(tmp_path / "two", kind, ranks=2)
    other = load_file(tmp_path / "two" / "rank1.safetensors")
    assert all(torch.equal(two[name], other[name]) for name in two)
    scores = [float((tmp_path / n / "seen0").read_text().split()[1]) for n in ("one", "two")]
    assert scores[1] == pytest.approx(scores[0], abs=0.06)
    assert scores[1] > 0.75


def test_shares_of_a_batch_are_the_batch(tmp_path: Path) -> None:
    images = np.arange(23, dtype=np.uint8).repeat(16).reshape(23, 4, 4, 1)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(23) % 2)
    data = load_data(f"npz:{tmp_path / 'data.npz'}")
    whole = list(data.batches(8, shuffle_seed=3))
    shares = [list(data.batches(8, shuffle_seed=3, share=(rank, 3))) for rank in range(3)]

    def values(x: Any) -> list[float]:
        return sorted(x[:, 0, 0, 0].tolist())

    for number, (x, _) in enumerate(whole):
        parts = torch.cat([share[number][0] for share in shares])
        assert values(parts) == values(x)


RUN = (
    "plan.remove=[stage1.1,stage2.1]", "plan.flops=null", "plan.trial_examples=100",
    "scan.scheme=permuted", "scan.half_width=0.3",
    "finetune.epochs=2", "finetune.batch_size=64", "finetune.rehearsal=4", "finetune.lr=0.02",
    "compare.latency_batches=[1]",
    "gates.max_drop=1.0",
    "export.onnx=false", "export.torch_export=false", "report.pictures=0", "device=cpu",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [(), ("prune.rounds=2",)])
def test_run_on_two_processes_delivers_one_folder(
    tmp_path: Path, digits: Path, overrides: tuple[str, ...]
) -> None:
    out = tmp_path / "runs"
    command = ["-m", "srinit", "run", "--json"]
    command += ["-c", str(digits / "srinit.yaml"), "--out", str(out)]
    command += [part for text in (*RUN, *overrides) for part in ("--set", text)]
    done, other = processes.run_ranks(2, *command)
    assert (done.returncode, other.returncode) == (0, 0), done.stderr[-3000:]
    body = json.loads(done.stdout)  # one document, from rank 0
    assert other.stdout == ""
    (folder,) = [path.parent for path in out.glob("*/run.json")]
    assert body["removed"] == ["stage1.1", "stage2.1"]
    assert body["score"]["pruned"] > 0.8
    log = json.loads((folder / "rounds" / f"0{body['round']}" / "tune.json").read_text())
    assert log["stopped"] == "finished"
    assert log["steps"] == 2 * 10  # of 600 examples at a batch of 64 in all, not for each process
    assert "Expected dip:" in done.stderr
    assert "steps on a copy leave a loss of" in done.stderr  # rehearsed by rank 0 alone
    verified = RunFolder.open(folder)
    for path in folder.glob("rounds/*/*.json"):
        verified.check(path)
