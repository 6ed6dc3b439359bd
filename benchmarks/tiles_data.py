"""Magnetic tiles as folders, kept apart by physical tile, and a network trained on them.

Files are named expN_num_M.jpg: M counts the frames of the recording, and each tile was photographed
in six ways (exp1 to exp6), some tens of frames apart. Pictures that lie at most 200 frames apart
are taken for the same tile (202 groups, 164 of them of exactly six pictures), and a tile with all
its pictures goes to one side.
"""

from __future__ import annotations

import math
import re
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from srinit.functions import load_function
from srinit.rng import isolated_rng
from srinit.sources import Preprocess, load_data

HERE = Path(__file__).resolve().parent
GAP = 200  # frames
FOLDS = 3
CALIBRATION = 0.2  # of the tiles that are not tested on
SIZE, MEAN, STD = 112, 0.5, 0.25
BATCH = 32
GOOD = "free"
CLASSES = ["blowhole", "break", "crack", "fray", GOOD, "uneven"]


def tiles(folder: Path) -> list[list[Path]]:
    """Return the pictures below a folder by physical tile, in the order of the recording."""
    frames = sorted(
        (int(re.fullmatch(r"exp\d_num_(\d+)", path.stem)[1]), path)  # type: ignore[index]
        for path in folder.glob("*/*.jpg")
    )
    found: list[list[Path]] = []
    last = -GAP - 1
    for number, path in frames:
        if number - last > GAP:
            found.append([])
        found[-1].append(path)
        last = number
    return found


def folds(groups: list[list[Path]]) -> list[list[list[Path]]]:
    """Return the tiles in three parts, each class of defects shared out evenly."""
    common = Counter(path.parent.name for group in groups for path in group)
    kinds: dict[str, list[list[Path]]] = {}
    for group in groups:
        rarest = min({path.parent.name for path in group}, key=lambda name: common[name])
        kinds.setdefault(rarest, []).append(group)
    parts: list[list[list[Path]]] = [[] for _ in range(FOLDS)]
    noise = np.random.default_rng(0)
    for name in sorted(kinds, key=lambda kind: common[kind]):
        for position in noise.permutation(len(kinds[name])):
            group = kinds[name][int(position)]
            # The part that has the fewest pictures of this class takes the tile.
            part = min(parts, key=lambda p: (_count(p, name), sum(map(len, p))))
            part.append(group)
    return parts


def _count(part: list[list[Path]], name: str) -> int:
    return sum(path.parent.name == name for group in part for path in group)


def sides(images: Path, split: str) -> dict[str, list[Path]]:
    """Return the pictures of train, calibration and test.

    Args:
        images: Folder of the pictures, one sub-folder a class.
        split: "tile-K": the K-th third of the tiles is tested, of the others a fifth calibrates.
            "session-ABC": sessions A and B are tested, C calibrates; the tiles are the same ones.
    """
    kind, _, which = split.partition("-")
    if kind == "session":
        chosen = {"test": which[:2], "calibration": which[2], "train": set("0123456") - set(which)}
        everything = [path for group in tiles(images) for path in group]
        return {k: [p for p in everything if p.name[3] in v] for k, v in chosen.items()}
    parts = folds(tiles(images))
    rest = [group for number, part in enumerate(parts) if number != int(which) for group in part]
    order = np.random.default_rng(int(which)).permutation(len(rest)).tolist()
    held = set(order[: round(CALIBRATION * len(rest))])
    return {
        "train": [path for n, group in enumerate(rest) if n not in held for path in group],
        "calibration": [path for n, group in enumerate(rest) if n in held for path in group],
        "test": [path for group in parts[int(which)] for path in group],
    }


def prepare(images: Path, project: Path, split: str) -> dict[str, Any]:
    """Write train/CLASS, test/CLASS and calibration (no labels) of a split; return the counts."""
    found = sides(images, split)
    for side, paths in found.items():
        for path in paths:
            folder = project / side / ("" if side == "calibration" else path.parent.name)
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / path.name)
    shutil.copyfile(HERE / "tiles_model.py", project / "model.py")
    return {
        side: {
            "pictures": len(paths),
            "defects": sum(path.parent.name != GOOD for path in paths),
        }
        for side, paths in found.items()
    }


def pictures(folder: Path) -> tuple[Tensor, Tensor, list[str]]:
    """Return the pictures of a folder as the network takes them, their labels and file names."""
    preprocess = Preprocess(size=(SIZE, SIZE), channels=1, mean=(MEAN,), std=(STD,))
    data = load_data(f"folder:{folder}", preprocess=preprocess)
    batches = list(data.batches(500))
    names = [Path(name).name for name in data.names]
    return torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]), names


def tile_numbers(images: Path, names: list[str]) -> list[int]:
    """Return for files of the data set which tile each shows."""
    number = {path.name: n for n, group in enumerate(tiles(images)) for path in group}
    return [number[name] for name in names]


def masks(folder: Path, files: list[str]) -> Tensor:
    """Return where the defects are, in [0, 1], as large as the pictures; nothing on good tiles."""
    by_name = {path.stem: path for path in folder.glob("*/*.png")}
    found = torch.zeros(len(files), 1, SIZE, SIZE)
    for number, name in enumerate(files):
        if (path := by_name.get(Path(name).stem)) is not None:
            with Image.open(path) as image:
                small = image.convert("L").resize((SIZE, SIZE), Image.Resampling.BOX)
            found[number, 0] = torch.from_numpy(np.array(small)) / 255
    return found


def varied(
    x: Tensor, labels: Tensor, noise: torch.Generator, strength: float
) -> tuple[Tensor, Tensor]:
    """Return pictures with their masks as they might have been taken, and what they show then.

    Turned, mirrored, stretched, cut out; on half of the good tiles the defect of another picture of
    the batch. A defect that was cut off is not there any more.

    Args:
        x: (B, 2, H, W): picture, of mean 0 and spread 1, and mask.
        labels: (B,): what they show.
        noise: Where the changes come from.
        strength: How much they may have been taken otherwise, up to 1.
    """
    count = len(x)

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=noise)

    def sign() -> Tensor:
        return torch.sign(between(-1, 1))

    angle, quarter = strength * between(-0.2, 0.2), torch.rand(count, generator=noise) < 0.5
    low, most = 1 - 0.35 * strength, 1 + 0.1 * strength
    wide, high = between(low, most) * sign(), between(low, most) * sign()
    right, down = (between(-1, 1) * (1 - each.abs()).clamp(0.1) for each in (wide, high))
    angle = angle + quarter * (math.pi / 2)
    rows = [
        torch.stack([angle.cos() * wide, -angle.sin() * high, right], 1),
        torch.stack([angle.sin() * wide, angle.cos() * high, down], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    before = x[:, 1].sum((1, 2))
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    good = CLASSES.index(GOOD)
    lost = (labels != good) & (x[:, 1].sum((1, 2)) < 0.15 * before)
    labels = torch.where(lost, good, labels)
    x[:, 1] = torch.where(lost[:, None, None], 0.0, x[:, 1])
    partner = torch.randperm(count, generator=noise)
    paste = (labels == good) & (torch.rand(count, generator=noise) < 0.5 * strength)
    seam = F.avg_pool2d(F.max_pool2d(x[partner, 1:], 7, 1, 3), 5, 1, 2) * paste[:, None, None, None]
    image = x[:, :1] * (1 - seam) + x[partner, :1] * seam
    where = torch.where(paste[:, None, None, None], x[partner, 1:], x[:, 1:])
    labels = torch.where(paste, labels[partner], labels)
    grain = torch.randn(count, 1, SIZE, SIZE, generator=noise)
    image = image + 0.2 * strength * torch.rand(count, 1, 1, 1, generator=noise) * grain
    return torch.cat([image, where], 1), labels


class Localizer(nn.Module):
    """Heads for training alone: where is a defect, by the features of the second and third stage.

    So few tiles teach a network to look at defects only if they say where these are.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Conv2d(32, 1, 1), nn.Conv2d(64, 1, 1)])
        self._seen: list[Tensor] = []
        self._hooks = [
            stage.register_forward_hook(lambda _m, _i, output: self._seen.append(output))
            for stage in (net.layer2, net.layer3)
        ]

    def loss(self, where: Tensor) -> Tensor:
        """Return the loss of the forward before, given the masks."""
        found = torch.zeros(())
        for head, features in zip(self.heads, self._seen, strict=True):
            logits = head(features)
            target = F.adaptive_max_pool2d(where, logits.shape[-2:]).clamp(0, 1)
            weight = torch.tensor(3.0)
            found = found + F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)
        self._seen.clear()
        return found

    def close(self) -> None:
        """Take the hooks away."""
        for hook in self._hooks:
            hook.remove()


def _fit(
    model: nn.Module, localizer: Localizer, images: Tensor, labels: Tensor, steps: int,
    strength: float,
) -> None:  # fmt: skip
    parameters = [*model.parameters(), *localizer.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=0.2)
    share = labels.bincount(minlength=len(CLASSES)).double()
    weight = 0.5 / len(labels) + 0.5 / (share[labels] * int((share > 0).sum()))
    noise = torch.Generator().manual_seed(0)
    model.train()
    for step in range(steps):
        chosen = torch.multinomial(weight, BATCH, replacement=True, generator=noise)
        x, shown = varied(images[chosen], labels[chosen], noise, strength)
        x, where = x.split(1, 1)
        output = model(x.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(output, shown, label_smoothing=0.05) + localizer.loss(where)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {loss.item():.3f}", flush=True)


def train(project: Path, shared: Path, epochs: int, strength: float) -> dict[str, Any]:
    """Train on project/train from random weights; half of every batch is balanced by class."""
    images, labels, files = pictures(project / "train")
    images = (images - images.mean((2, 3), keepdim=True)) / images.std((2, 3), keepdim=True)
    images = torch.cat([images, masks(shared / "masks", files)], 1)
    with isolated_rng(0):
        model = load_function("model.py:tile_net", project)()
        localizer = Localizer(model.net)
        began = time.process_time()
        steps = epochs * (len(labels) // BATCH)
        _fit(
            model.to(memory_format=torch.channels_last), localizer, images, labels, steps, strength
        )
    localizer.close()
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, project / "weights.safetensors")
    return {
        "epochs": epochs,
        "augmentation": strength,
        "steps": steps,
        "cpu_seconds": round(time.process_time() - began),
    }
