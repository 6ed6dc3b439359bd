"""Draw pictures of a turned part, good ones and ones with a scratch or a dent, and train on them.

    python examples/inspection/make.py        writes data/ and parts.safetensors beside itself

The pictures are drawn, not photographed: they stand in for a site's own images in the layout that
`folder:` reads, one sub-folder a class.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from model import part_net  # noqa: E402 - the folder is no package

SIDE = 48
CLASSES = ("OK", "dent", "scratch")
COUNTS = {"train": (700, 350, 350), "site": (2600, 250, 250), "line": (400, 12, 8)}
MEAN, STD = 0.5, 0.25  # of the pixels; srinit.yaml says the same
EPOCHS = 16


def part(chance: np.random.Generator, *, kind: str = "OK") -> np.ndarray:
    """Return one picture, (48, 48) bytes: a ring with turning marks, and perhaps a defect."""
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(float)
    middle = chance.uniform(21, 27, 2)
    radius = np.hypot(x - middle[0], y - middle[1])
    wave = 20 * np.sin(x * chance.uniform(0.05, 0.15) + chance.uniform(0, 6))
    steel = 150 + wave + 9 * np.sin(radius * 2.2) + chance.normal(0, 7, (SIDE, SIDE))
    image = np.where(radius < 20, steel, 60 + chance.normal(0, 5, (SIDE, SIDE)))
    image = np.where(abs(radius - 20) < 1.2, 210, image)
    image = np.where(radius < 5, 40, image)
    if kind != "OK":
        angle, far = chance.uniform(0, 2 * np.pi), chance.uniform(9, 15)
        at = middle + far * np.array([np.cos(angle), np.sin(angle)])
        image = image + (_scratch if kind == "scratch" else _dent)(chance, x - at[0], y - at[1])
    return np.clip(image, 0, 255).astype(np.uint8)


def _scratch(chance: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    angle, half = chance.uniform(0, np.pi), chance.uniform(2, 6)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    line = np.exp(-((across / 0.7) ** 2)) * (abs(along) < half)
    return chance.uniform(80, 160) * line


def _dent(chance: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    size, depth = chance.uniform(1.4, 2.6), chance.uniform(60, 130)
    dark = np.exp(-(x**2 + y**2) / (2 * size**2))
    light = np.exp(-((x - 1.5) ** 2 + (y - 1.5) ** 2) / (2 * size**2))
    return depth * (0.8 * light - dark)


def draw(folder: Path) -> None:
    """Write the pictures, one sub-folder a class; those of `folder`/line into one, unlabeled."""
    for number, (name, counts) in enumerate(COUNTS.items()):
        chance = np.random.default_rng(number)
        index = 0
        for label, count in zip(CLASSES, counts, strict=True):
            place = folder / name / ("" if name == "line" else label)
            place.mkdir(parents=True, exist_ok=True)
            for _ in range(count):
                Image.fromarray(part(chance, kind=label)).save(place / f"{index:04}.png")
                index += 1


def train(folder: Path) -> nn.Module:
    """Return the network, trained on the pictures of `folder`."""
    paths = [
        (path, i) for i, label in enumerate(CLASSES) for path in (folder / label).glob("*.png")
    ]
    paths.sort()
    pixels = np.stack([np.asarray(Image.open(path)) for path, _ in paths])
    x: Tensor = torch.from_numpy(pixels)[:, None].float().div(255).sub(MEAN).div(STD)
    y = torch.tensor([label for _, label in paths])
    model = part_net()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    steps = EPOCHS * -(-len(x) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x)).split(64):
            turned = torch.rot90(x[rows], int(torch.randint(4, ())), (2, 3))
            loss = F.cross_entropy(model(turned), y[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()


if __name__ == "__main__":
    draw(HERE / "data")
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        weights = train(HERE / "data" / "train").state_dict()
    save_file({k: v.contiguous() for k, v in weights.items()}, HERE / "parts.safetensors")
