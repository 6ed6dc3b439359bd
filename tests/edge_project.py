"""A project of image files of every kind that the loader takes, and who runs a package of it."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import deep_files

CLASSES = ("dark", "dim", "light", "white")
MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = nn.Conv2d(8, 8, 3, padding=1)
        self.other = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)
        with torch.no_grad():
            for number, value in enumerate(self.parameters()):
                wave = torch.sin(torch.arange(value.numel()) * (1.7 + number))
                value.copy_(0.03 * wave.reshape(value.shape))
            self.stem.weight[0, :, 1, 1] += 1 / 3
            self.stem.bias[0] += 3  # above zero: dark pixels are about -2
            center = torch.linspace(1.8, 2.6, 4)
            self.head.weight[:, 0], self.head.bias[:] = 40 * center, -20 * center**2

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = x + 0.2 * self.block(x)
        x = x + 0.2 * self.other(x)
        return self.head(x.mean((2, 3)))

def make():
    return Net()
"""
BLOCKED = """
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "srinit", "onnx", "scipy", "pydantic", "yaml"):
            raise ImportError(f"{name} is not there")

sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def picture(seed: int, height: int = 23, width: int = 31) -> np.ndarray[Any, Any]:
    """Return smooth colors of 16 bits, brighter with the seed."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 30000 + 5000 * (seed % 7), (4, 5, 3), dtype=np.uint16)
    planes = [
        np.asarray(Image.fromarray(small[..., k].astype(np.int32)).resize((width, height), 2))
        for k in range(3)
    ]
    return np.stack(planes, axis=2).astype(np.int64)


def kinds(seed: int) -> dict[str, bytes]:
    """Return one picture as a file of every kind, by name."""
    deep = picture(seed)
    color = Image.fromarray((deep >> 8).astype(np.uint8))
    gray, clear = color.convert("L"), color.copy()
    clear.putalpha(gray)
    turned = Image.Exif()
    turned[0x0112] = 6  # a camera that was held upright
    found: dict[str, bytes] = {
        "deep-color.png": deep_files.png(deep),
        "deep-gray.png": deep_files.png(deep[..., :1]),
        "deep-alpha.png": deep_files.png(np.dstack([deep, deep[..., :1]])),
        "deep.tif": deep_files.tiff(deep),
        "deep-motorola.tiff": deep_files.tiff(deep, order=">"),
        "deep.ppm": deep_files.ppm(deep, 65535),
        "deep.pgm": deep_files.ppm(deep[..., :1], 65535, plain=True),
    }
    for name, image, options in (
        ("color.jpg", color, {"quality": 80}),
        ("turned.jpeg", color, {"quality": 90, "exif": turned}),
        ("gray.JPG", gray, {}),
        ("print.jpg", color.convert("CMYK"), {}),
        ("color.png", color, {}),
        ("gray.png", gray, {}),
        ("clear.png", clear, {}),
        ("clear-gray.png", clear.convert("LA"), {}),
        ("palette.png", color.quantize(16), {"transparency": 3}),
        ("bits.png", gray.convert("1"), {}),
        ("color.bmp", color, {}),
        ("color.tif", color, {}),
        ("color.webp", color, {"lossless": True}),
        ("few.gif", color.quantize(32), {}),
        ("color.pnm", color, {"format": "PPM"}),
    ):
        buffer = io.BytesIO()
        kind = (
            options.pop("format", None) or Image.registered_extensions()[Path(name).suffix.lower()]
        )
        image.save(buffer, kind, **options)
        found[name] = buffer.getvalue()
    return found


def make(folder: Path, **sections: Any) -> Path:
    """Write the project; return its config."""
    (folder / "model.py").write_text(MODEL)
    for part, seeds in (("some", range(20, 32)), ("more", range(32, 44)), ("test", range(4))):
        for index, name in enumerate(CLASSES):
            place = folder / part / name
            place.mkdir(parents=True)
            for seed in seeds:
                if seed % 4 != index:
                    continue
                if part != "test":
                    Image.fromarray((picture(seed) >> 8).astype(np.uint8)).save(
                        place / f"{seed}.png"
                    )
                    continue
                for file, content in kinds(seed).items():
                    (place / f"{seed}-{file}").write_bytes(content)
    preprocess = {"size": 20, "crop": [16, 18], "bits": 16, "interpolation": "bicubic"}
    body: dict[str, Any] = {
        "name": "kinds",
        "model": {"source": "py:model.py:make"},
        "data": {
            "calibration": "folder:some", "validation": "folder:more", "test": "folder:test",
            "classes": list(CLASSES), "preprocess": preprocess,
        },
        "scan": {"scheme": "permuted", "half_width": 0.4},
        "plan": {"remove": ["block"], "trial_examples": 0, "beside": []},
        "finetune": {"epochs": 0},
        "compare": {"latency_batches": [1, 2]},
        "gates": {"max_drop": 0.99, "max_class_recall_drop": None},
        "export": {"torch_export": False, "package": True, "license": "CC-BY-4.0"},
        "report": {"pictures": 0},
        "out": str(folder / "runs"),
    }  # fmt: skip
    for name, section in sections.items():
        body[name] = {**body.get(name, {}), **section}
    path = folder / "srinit.yaml"
    path.write_text(json.dumps(body), "utf-8")
    return path


def python_without(folder: Path) -> list[str]:
    """Return how to run a script where there are onnxruntime, numpy and Pillow alone.

    A fresh environment, where uv has the packages at hand; else this one with the others blocked.
    """
    uv = shutil.which("uv")
    target = folder / "venv"
    python = target / "bin" / "python"
    if uv is not None:
        requirements = folder / "requirements.txt"
        for command in (
            [uv, "venv", "-q", "--python", sys.executable, str(target)],
            [uv, "pip", "install", "-q", "--offline", "--python", str(python), "-r",
             str(requirements)],
        ):  # fmt: skip
            if subprocess.run(command, check=False, capture_output=True).returncode:
                break
        else:
            return [str(python)]
    blocker = folder / "blocked.py"
    blocker.write_text(BLOCKED)
    return [sys.executable, "-I", str(blocker)]
