"""A project on disk: images with bright and dark squares, and networks right by construction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

CLASSES = ("good", "bright", "dark")
SIDE, SQUARE = 16, 4

NETWORKS = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, share):
        super().__init__()
        self.layer = nn.Conv2d(4, 4, 3, padding=1)
        nn.init.zeros_(self.layer.bias)
        self.layer.weight.data.mul_(share)

    def forward(self, x):
        return x + self.layer(x)

class Pixels(nn.Module):
    '''Calls bright and dark pixels; the first block turns half of the dark ones into good ones.'''

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 1, bias=False)
        self.blocks = nn.Sequential(Block(0.0), Block(0.001), Block(0.002))
        self.head = nn.Conv2d(4, 3, 1)
        with torch.no_grad():
            self.stem.weight.zero_()
            self.stem.weight[0] = 1
            self.head.weight.zero_()
            self.head.bias.copy_(torch.tensor([2.0, 0.0, 0.0]))
            self.head.weight[1, 0], self.head.weight[2, 0] = 4.0, -4.0

    def forward(self, x):
        return {"out": self.head(self.blocks(self.stem(x))), "aux": x}

def pixels():
    return Pixels()
"""


def squares(count: int, seed: int = 0) -> list[tuple[np.ndarray, list[tuple[int, int, int]]]]:
    """Return images of a gray noise, and where squares lie in them: class, top, left."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        image = rng.integers(118, 138, (SIDE, SIDE), dtype=np.uint8)
        marks = []
        for column in rng.permutation(2)[: rng.integers(0, 3)]:
            label, top = int(rng.integers(1, 3)), int(rng.integers(0, SIDE - SQUARE))
            left = int(column) * (SIDE // 2) + int(rng.integers(0, SIDE // 2 - SQUARE))
            image[top : top + SQUARE, left : left + SQUARE] = {1: 250, 2: 5}[label]
            marks.append((label, top, left))
        found.append((image, marks))
    return found


def write_masks(folder: Path, count: int = 120) -> Path:
    """Write images and masks, none for good parts, and the networks; return the folder."""
    for name in ("images", "masks"):
        (folder / "parts" / name).mkdir(parents=True, exist_ok=True)
    (folder / "nets.py").write_text(NETWORKS)
    for number, (image, marks) in enumerate(squares(count)):
        Image.fromarray(image).save(folder / "parts" / "images" / f"{number:03}.png")
        mask = np.zeros_like(image)
        for label, top, left in marks:
            mask[top : top + SQUARE, left : left + SQUARE] = label
        if marks:
            Image.fromarray(mask).save(folder / "parts" / "masks" / f"{number:03}.png")
    return folder


def write_config(folder: Path, name: str, **sections: object) -> Path:
    """Write a config that runs in a second, with other sections put in."""
    body: dict[str, object] = {
        "name": name,
        "device": "cpu",
        "model": "py:nets.py:pixels",
        "score": "defect_iou",
        "data": {
            "source": "masks:parts",
            "classes": list(CLASSES),
            "masks": {"missing": "good"},
            "preprocess": {"channels": 1, "mean": [0.5], "std": [0.25]},
            "batch_size": 32,
        },
        "scan": {"scheme": "default", "half_width": 0.4},
        "plan": {"params": 0.75, "trial_examples": 16, "beside": []},
        "finetune": {"epochs": 1, "lr": 0.001},
        "compare": {"latency_batches": [1]},
        "gates": {"max_drop": 0.9},
        "export": {"torch_export": False},
        "report": {"pictures": 2},
        "registry": {"track": False},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**body, **sections}))
    return path
