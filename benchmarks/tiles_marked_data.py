"""Magnetic tiles with masks and boxes as folders, and small networks trained on them."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

import tiles_data
from srinit.config import MasksSection
from srinit.functions import load_function
from srinit.networks import load_weights, read_weights
from srinit.rng import isolated_rng
from srinit.sources import DataSet, Marks, Preprocess, load_data

SIZE = 96
LEAST = 12  # pixels of the picture: smaller groups of a mask are no object
SPLIT = "session-564"
GRAY = Preprocess(size=(SIZE, SIZE), channels=1, mean=(0.5,), std=(0.25,))
COARSE = Preprocess(size=(64, 64))


def prepare(shared: Path, project: Path) -> dict[str, Any]:
    """Write SIDE/images, SIDE/masks and SIDE/boxes.json; return the counts."""
    source = shared / "data" / "magnetic-tile"
    sides = tiles_data.sides(source / "images", SPLIT)
    held = sides.pop("calibration")
    tile = dict(zip((p.name for p in held),
                    tiles_data.tile_numbers(source / "images", [p.name for p in held]),
                    strict=True))  # fmt: skip
    sides["calibration"] = [path for path in held if tile[path.name] % 3]
    sides["validation"] = [path for path in held if not tile[path.name] % 3]
    counts: dict[str, Any] = {}
    for side, paths in sides.items():
        images: list[Any] = []
        objects: list[Any] = []
        for number, path in enumerate(paths):
            name = f"{path.parent.name}/{path.name}"
            for kind, file in (("images", path), ("masks", _mask(source, path))):
                if file is not None:
                    target = project / side / kind / path.parent.name / file.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, target)
            images.append({"id": number, "file_name": name})
            mask = _mask(source, path)
            objects += [] if mask is None else _boxes(mask, number)
        (project / side / "boxes.json").write_text(
            json.dumps({"images": images, "annotations": objects,
                        "categories": [{"id": 1, "name": "defect"}]})
        )  # fmt: skip
        bad = sum(path.parent.name != tiles_data.GOOD for path in paths)
        counts[side] = {"pictures": len(paths), "defective": bad, "boxes": len(objects)}
    examples = tiles_data.HERE.parent / "examples"
    for file, name in (
        (tiles_data.HERE / "tiles_marked_model.py", "tiles_marked_model.py"),
        (examples / "cifar10" / "model.py", "cifar_model.py"),
        (examples / "anomaly" / "patchcore.py", "patchcore.py"),
    ):
        shutil.copyfile(file, project / name)
    return counts


def _mask(source: Path, path: Path) -> Path | None:
    found = source / "masks" / path.parent.name / f"{path.stem}.png"
    return found if found.is_file() and path.parent.name != tiles_data.GOOD else None


def _boxes(mask: Path, number: int) -> list[dict[str, Any]]:
    """Return the frames of a mask's groups of pixels, as COCO writes them."""
    with Image.open(mask) as image:
        marked = np.asarray(image.convert("L")) > 127
    groups, _ = ndimage.label(ndimage.binary_dilation(marked, iterations=3))
    found = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(groups), start=1):
        if (marked & (groups == index)).sum() >= LEAST:
            box = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
            found.append({"image_id": number, "category_id": 1, "bbox": box, "iscrowd": 0})
    return found


def marked(project: Path, side: str) -> DataSet:
    """Return the pictures of a side with their masks."""
    marks = Marks(MasksSection(missing="good"))
    return load_data(f"masks:{project / side}", preprocess=GRAY, marks=marks)


def _varied(x: Tensor, y: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return pictures and masks mirrored and turned by quarters, all of a batch alike."""
    turn, flip = (int(torch.randint(0, n, (1,), generator=noise)) for n in (4, 2))
    x, y = torch.rot90(x, turn, (2, 3)), torch.rot90(y, turn, (1, 2))
    return (x.flip(3), y.flip(2)) if flip else (x, y)


def train_segmenter(project: Path, epochs: int) -> dict[str, Any]:
    """Train from random weights; half of every batch holds a defect."""
    data = marked(project, "train")
    (x, y) = next(iter(data.batches(len(data))))
    y = y.long()
    bad = (y == 1).flatten(1).any(1).double()
    weight = 0.5 / (1 - bad).sum() * (1 - bad) + 0.5 / bad.sum() * bad
    with isolated_rng(0):
        model = load_function("tiles_marked_model.py:segmenter", project)()
        noise = torch.Generator().manual_seed(0)

        def loss(model: nn.Module) -> Tensor:
            chosen = torch.multinomial(weight, 24, replacement=True, generator=noise)
            inputs, wanted = _varied(x[chosen], y[chosen], noise)
            output = F.interpolate(model(inputs), size=(SIZE, SIZE), mode="bilinear")
            called = output.softmax(1)[:, 1]
            both = (called * (wanted == 1)).sum((1, 2))
            sums = called.sum((1, 2)) + (wanted == 1).sum((1, 2))
            dice = (1 - (2 * both + 20) / (sums + 20)).mean()
            return F.cross_entropy(output, wanted) + dice

        return _trained(model, loss, epochs * len(data) // 24, project / "segmenter.safetensors")


def train_finder(project: Path, epochs: int) -> dict[str, Any]:
    """Train the detector; its encoder begins as the segmenter's."""
    rgb = Preprocess(size=(SIZE, SIZE), mean=(0.0,) * 3, std=(1.0,) * 3)
    data = load_data(f"coco:{project / 'train' / 'boxes.json'}", preprocess=rgb)
    (x, y) = next(iter(data.batches(len(data))))
    bad = (y[:, :, 0] > 0).any(1).double()
    weight = 0.3 / (1 - bad).sum() * (1 - bad) + 0.7 / bad.sum() * bad
    with isolated_rng(0):
        model = load_function("tiles_marked_model.py:finder", project)()
        state = read_weights(project / "segmenter.safetensors")
        prefix = "merged.encoder."
        encoder = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        load_weights(model.network.backbone.merged.encoder, encoder, where="segmenter")
        noise = torch.Generator().manual_seed(0)

        def loss(model: nn.Module) -> Tensor:
            chosen = torch.multinomial(weight, 16, replacement=True, generator=noise)
            rows = [each[each[:, 0] > 0] for each in y[chosen]]
            targets = [{"boxes": r[:, 1:], "labels": r[:, 0].long()} for r in rows]
            found: Tensor = model(x[chosen]).loss(targets)
            return found

        return _trained(model, loss, epochs * len(data) // 16, project / "finder.safetensors")


def fit_bank(project: Path, shared: Path) -> dict[str, Any]:
    """Put the pretrained backbone and a bank of the good training pictures into one file."""
    model = load_function("tiles_marked_model.py:bank", project)()
    weights = shared / "checkpoints" / "resnet20-cifar10-jpeg.safetensors"
    state = {f"backbone.{k}": v for k, v in read_weights(weights).items() if k[:6] != "linear"}
    missing, surplus = model.load_state_dict(state, strict=False)
    assert set(missing) == {"bank", "threshold"}
    assert not surplus
    good = load_data(f"images:{project / 'train' / 'images' / tiles_data.GOOD}", preprocess=COARSE)
    began = time.process_time()
    model.fit_good(x for x, _ in good.batches(32))
    save_file({k: v.contiguous() for k, v in model.state_dict().items()},
              project / "bank.safetensors")  # fmt: skip
    return {"good_parts": len(good), "cpu_seconds": round(time.process_time() - began)}


def _trained(model: nn.Module, loss: Any, steps: int, path: Path) -> dict[str, Any]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps, pct_start=0.2)
    began = time.process_time()
    model.train()
    for step in range(steps):
        value = loss(model)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            spent = time.process_time() - began
            print(f"step {step} of {steps}: loss {value.item():.3f}, {spent:.0f} s", flush=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return {"steps": steps, "cpu_seconds": round(time.process_time() - began)}
