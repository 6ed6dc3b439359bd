"""A model, a folder of images without labels and a labelled test: nothing is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from srinit import cli
from srinit.rng import generator, isolated_rng

MODEL = """
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x):
        return F.relu(x + self.bn(self.conv(x)))


def make():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(*(Block() for _ in range(4))),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 2),
    )
"""


def picture(noise: torch.Generator, label: int) -> Image.Image:
    """Return stripes, upright for one class and level for the other, with noise."""
    base = torch.zeros(12, 12)
    (base if label else base.T)[::3] = 120.0
    pixels = base[..., None] + 60 * torch.rand(12, 12, 3, generator=noise)
    return Image.fromarray(pixels.clamp(0, 255).numpy().astype(np.uint8))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a trained network, images without labels and a labelled test."""
    root = tmp_path_factory.mktemp("untrained")
    (root / "net.py").write_text(MODEL)
    space: dict[str, Any] = {}
    exec(MODEL, space)
    noise = generator("stripes")
    with isolated_rng(5):
        model: nn.Module = space["make"]()
    images = [(picture(noise, n % 2), n % 2) for n in range(160)]
    for number, (image, label) in enumerate(images):
        folder = root / ("line" if number < 100 else f"test/{'bad' if label else 'good'}")
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number}.png")
    x = torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1) / 255.0 for i, _ in images])
    y = torch.tensor([1 - label for _, label in images])  # bad, good
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(40):
        loss = nn.functional.cross_entropy(model((x - 0.4) / 0.25), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_file(model.state_dict(), root / "net.safetensors")
    config = """
    name: line
    model: {source: "py:net.py:make", weights: net.safetensors}
    data:
      calibration: images:line
      test: folder:test
      preprocess: {mean: [0.4, 0.4, 0.4], std: [0.25, 0.25, 0.25]}
    scan: {half_width: 0.2}
    plan: {remove: ["1.1", "1.2"], trial_examples: 40}
    compare: {latency_batches: [1]}
    export: {onnx: false}
    gates: {max_drop: 0.3, max_class_recall_drop: null}
    """
    (root / "srinit.yaml").write_text("\n".join(line[4:] for line in config.splitlines()))
    return root


def test_a_run_without_training_data_ends_with_the_compensated_network(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(project, tmp_path / "p")
    code = cli.run(["run", "-c", str(tmp_path / "p" / "srinit.yaml"), "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err[-2000:]
    assert "nothing will be trained" in said.err
    assert "without labels" in said.err
    run = Path(json.loads(said.out)["run"])
    metrics = json.loads((run / "rounds" / "01" / "metrics.json").read_text())
    choice = metrics["compensation"]["choice"]
    assert choice["num_held_out"] == 100
    assert {each["name"] for each in choice["candidates"]} > {"nothing", "recalibrated"}
    assert "patch" in {each["name"] for each in choice["skipped"]}
    tune = json.loads((run / "rounds" / "01" / "tune.json").read_text())
    assert tune["steps"] == 0
    comparison = json.loads((run / "rounds" / "01" / "comparison.json").read_text())
    assert comparison["num_examples"] == 60


def test_training_and_test_data_need_labels(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "p")
    config = tmp_path / "p" / "srinit.yaml"
    config.write_text(config.read_text().replace("test: folder:test", "test: images:test"))
    assert cli.run(["inspect", "-c", str(config), "--json"]) == 4
