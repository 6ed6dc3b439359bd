"""A project on disk whose network is right by construction: four classes of brightness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("dark", "dim", "light", "white")

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    '''Compares the brightness, 0 to 1, of one channel with that of four classes.'''

    def __init__(self, swap=False, channels=3, reads=None, shift=0.0):
        super().__init__()
        self.stem = nn.Conv2d(channels, 4, 1, bias=False)
        self.block = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 4)
        center = (32 + 64 * torch.arange(4.0)) / 255 + shift
        order = [0, 2, 1, 3] if swap else [0, 1, 2, 3]
        with torch.no_grad():
            for value in self.parameters():
                value.zero_()
            used = range(channels) if reads is None else [reads]
            for channel in used:
                self.stem.weight[0, channel] = 1 / len(used)
            self.head.weight[:, 0] = 200 * center[order]
            self.head.bias.copy_(-100 * center[order] ** 2)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.block(x)
        return self.head(x.mean((2, 3)))

def make(**args):
    return Net(**args)
"""


def make_project(folder: Path, count: int = 24, *, gray: bool = False) -> Path:
    """Write model.py and data/CLASS/N.png; red carries the class, green and blue in part."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(MODEL)
    for index, name in enumerate(CLASSES):
        (folder / "data" / name).mkdir(parents=True)
        for number in range(count):
            level = 32 + 64 * index + rng.integers(-12, 13, (6, 6, 1))
            blue = 32 + 64 * int(rng.integers(0, 4)) + rng.integers(-12, 13, (6, 6, 1))
            pixels = level[..., 0] if gray else np.concatenate([level, level, blue], axis=2)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "data" / name / f"{number}.png")
    return folder


def config(folder: Path, **sections: Any) -> Path:
    """Write srinit.yaml (JSON is YAML) with `sections` over the project's own, and return it."""
    plain = {"mean": [0, 0, 0], "std": [1, 1, 1]}
    body: dict[str, Any] = {
        "name": "run",
        "model": {"source": "py:model.py:make", "args": {"reads": 0}},
        "data": {
            "source": "folder:data", "classes": list(CLASSES), "preprocess": plain,
            "split": {"calibration": 0.5, "validation": 0.4, "test": 0.1},
        },
        "compare": {"latency_batches": [1]},
        "finetune": {"epochs": 0},
        "out": str(folder / "runs"),
    }  # fmt: skip
    for name, section in sections.items():
        body[name] = {**body.get(name, {}), **section} if isinstance(section, dict) else section
    path = folder / "srinit.yaml"
    path.write_text(json.dumps(body, ensure_ascii=False), "utf-8")
    return path
