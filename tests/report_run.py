"""A small real run for the tests of the report: trained for a moment, measured, pruned, compared.

The classes and one submodule have names that would be markup, a formula or Japanese, since names
are untrusted text.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from srinit.comparison import ErrorCost, Rise
from srinit.gates import Gate
from srinit.report import ReportInput
from srinit.rng import isolated_rng

RUN = Path(__file__).parent / "golden" / "report" / "run"  # records of one such run
KEPT = ("run.json", "config.yaml", "env.json", "baseline/metrics.json", "scan/sensitivity.json")
KEPT += (
    "scan/criterion.json",
    "scan/beside.json",
    "plan.json",
    "plan_latency.json",
    "export/export.json",
    "report/pictures.json",
)
KEPT += tuple(
    f"rounds/*/{name}.json" for name in ("metrics", "tune", "comparison", "gate", "ownership")
)
HOSTILE = "<img src=x onerror=alert(1)>"
CLASSES = {0: "良品", 3: HOSTILE, 8: "不良"}
CONTAINER = "stage<b>1</b>"
MODEL = textwrap.dedent(
    """
    from torch import nn
    from torch.nn import functional as F

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.conv = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.norm = nn.BatchNorm2d(width)

        def forward(self, x):
            return F.relu(x + self.norm(self.conv(x)))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(1, 8, 3, 1, 1)
            self.add_module("stage<b>1</b>", nn.Sequential(*(Block(8) for _ in range(4))))
            self.down = nn.Conv2d(8, 12, 3, 2, 1)
            self.stage2 = nn.Sequential(*(Block(12) for _ in range(3)))
            self.classifier = nn.Linear(12, 3)

        def forward(self, x):
            x = getattr(self, "stage<b>1</b>")(F.relu(self.stem(x)))
            x = self.stage2(F.relu(self.down(x)))
            return self.classifier(x.mean((2, 3)))

    def create_model():
        return Net()
    """
)
CONFIG = """\
name: 検査
model: {source: "py:model.py:create_model", weights: weights.safetensors}
data:
  train: npz:train.npz
  source: npz:rest.npz
  split: {calibration: 0.4, validation: 0.2, test: 0.4}
  defect_class: 不良
  preprocess: {channels: 1, mean: [0.3], std: [0.37]}
scan: {scheme: permuted, half_width: 0.1}
plan: {flops: 0.7}
finetune: {epochs: 2}
compare: {latency_batches: [1, 8]}
gates: {max_drop: 0.05, max_class_recall_drop: null, max_missed_defect_increase: 0.2,
  min_agreement: 0.8}
export: {onnx: false, torch_export: false}
report: {pictures: 3}
roi:
  pieces_per_year: 12000000
  cost_per_compute_hour: 1200
  engineering_hours: 40
  hourly_rate: 8000
  missed_defect_cost: 5000
  false_reject_cost: 30
"""


def with_costs(report: ReportInput) -> ReportInput:
    """Return the report's input as if a cost matrix had been given, and no prices in `roi`."""
    comparison = report.comparison
    assert comparison is not None
    risk = comparison.defects
    assert risk is not None
    share = risk.missed_pruned.total / comparison.num_examples
    rise = Rise(
        value=0.5, low=-0.75, high=2.25, confidence=0.95, baseline=3.2, pruned=3.7,
        num_examples=comparison.num_examples,
    )  # fmt: skip
    cost = ErrorCost(
        costs={"良品": {HOSTILE: 30.0, "不良": 30.0}, "不良": {"良品": 500.0}},
        defect_share=share, share_given=False, increase=rise, missed=0.75, rejected=-0.25,
        mixed=0.0, cost_of_miss=500.0, cost_of_reject=30.0, break_even_miss_rate=0.0123,
        break_even_ratio=5.5,
    )  # fmt: skip
    round_ = replace(report.rounds[-1], comparison=replace(comparison, error_cost=cost))
    roi = report.roi.changed(missed_defect_cost=None, false_reject_cost=None)
    return replace(report, rounds=(*report.rounds[:-1], round_), roi=roi)


def with_all_gates(report: ReportInput) -> ReportInput:
    """Return the report's input as if false rejects and costs had been limited too, in vain."""
    gates = report.gates
    assert gates is not None
    more = (
        Gate(
            name="max_false_reject_increase", limit=0.02, measured=0.0, bound=0.0029, passed=True,
            sentence="rise of good parts rejected: +0.00 points; allowed +2.00 points",
        ),
        Gate(
            name="max_cost_increase", limit=0.5, measured=0.5, bound=2.25, passed=False,
            sentence="rise of the cost of errors: +0.5 a piece, at most +2.25; allowed +0.5",
        ),
    )  # fmt: skip
    result = replace(gates, gates=(*gates.gates, *more))
    return replace(report, rounds=(*report.rounds[:-1], replace(report.rounds[-1], gates=result)))


def keep_run(run: Path, target: Path) -> None:
    """Copy the records of a run into `target`, without what belongs to the machine it ran on."""
    for name in KEPT:
        for path in run.glob(name):
            place = target / path.relative_to(run)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
    head = json.loads((target / "run.json").read_text("utf-8"))
    (target / "run.json").write_text(json.dumps({**head, "root": "."}, indent=2) + "\n", "utf-8")
    begun = {"time": "2026-03-05T07:08:09.000+00:00", "verb": "begin"}
    (target / "audit.jsonl").write_text(json.dumps(begun) + "\n", "utf-8")
    config = (target / "config.yaml").read_text("utf-8")
    lines = [line for line in config.splitlines() if not line.startswith(("out:", "root:"))]
    (target / "config.yaml").write_text("\n".join([*lines, "out: runs"]) + "\n", "utf-8")


def make_run(folder: Path, name: str = "inspection") -> Path:
    """Make a project in `folder`, carry out all of it, and return the run folder."""
    from sklearn.datasets import load_digits

    from srinit.pipeline import run

    digits = load_digits()
    chosen = np.isin(digits.target, list(CLASSES))
    images = (digits.images[chosen] * (255 / 16)).round().astype(np.uint8)[..., None]  # N H W C
    labels = np.searchsorted(list(CLASSES), digits.target[chosen]).astype(np.int64)
    names = np.array(list(CLASSES.values()))
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in (("train", slice(0, 240)), ("rest", slice(240, None))):
        np.savez(
            folder / f"{part}.npz", images=images[rows], labels=labels[rows], class_names=names
        )
    (folder / "model.py").write_text(MODEL, "utf-8")
    namespace: dict[str, object] = {}
    exec(MODEL, namespace)
    model = _trained(namespace["create_model"], images[:240], labels[:240])
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "weights.safetensors"
    )
    config = folder / "srinit.yaml"
    config.write_text(CONFIG.replace("name: 検査", f"name: {name}"), "utf-8")
    result = run.run_file(config, [f"out={folder / 'runs'}"])
    return Path(result.run)


def _trained(make: object, images: np.ndarray, labels: np.ndarray) -> nn.Module:
    x: Tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).sub(0.3).div(0.37)
    y = torch.from_numpy(labels)
    with isolated_rng(0):
        model: nn.Module = make()  # type: ignore[operator]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        for _ in range(20):
            for rows in torch.randperm(len(x)).split(32):
                loss = F.cross_entropy(model(x[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    with torch.inference_mode():
        accuracy = float((model.eval()(x).argmax(1) == y).float().mean())
    assert accuracy > 0.95, f"the network of the test learned nothing: {accuracy:.3f}"
    return model


if __name__ == "__main__":  # python tests/report_run.py: make the kept run anew
    with tempfile.TemporaryDirectory() as folder:
        keep_run(make_run(Path(folder)), Path(sys.argv[1]) if len(sys.argv) > 1 else RUN)
