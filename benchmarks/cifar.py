"""What the benchmarks on CIFAR-10 share: networks, data kept apart, a recovery, a growing record.

Data and checkpoints are those of `--shared` (data/cifar10-jpeg, checkpoints). Of the 50,000
training images 5,000 are calibration, 5,000 validation, the rest is trained on; the 10,000 test
images are only ever read for the number that is reported.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import json
import math
import os
import platform
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srinit.compensation import recalibrate
from srinit.functions import load_function
from srinit.networks import load_weights, read_weights
from srinit.rng import isolated_rng, seed_for
from srinit.sources import Augment, DataSet, Preprocess, load_data
from srinit.units import UnitMap, find_units

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
MODEL = HERE.parent / "examples" / "cifar10" / "model.py"
KEPT_ASIDE = 5000  # training images each of calibration and validation
RECALIBRATION = 20  # batches
BATCH = 250  # images, where nothing is trained
Correct = npt.NDArray[np.bool_]  # per test image


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark here takes."""
    found = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared")
    found.add_argument("--depth", type=int, default=20, help="of the CIFAR ResNet")
    found.add_argument("--device", default="cpu")
    found.add_argument("--threads", type=int, default=1)
    found.add_argument("--cpu-seconds", type=float, default=math.inf, help="stop after so much")
    return found


class Lab:
    """One trained network and its data, and what is done with them in several benchmarks."""

    def __init__(self, args: argparse.Namespace) -> None:
        torch.set_num_threads(args.threads)
        self.args, self.device = args, torch.device(args.device)
        folder = args.shared / "data" / "cifar10-jpeg"
        preprocess = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        whole = load_data(f"parquet:{folder / 'train.parquet'}", preprocess=preprocess)
        order = np.random.default_rng(0).permutation(len(whole)).tolist()
        self.calibration: DataSet = whole.subset(order[:KEPT_ASIDE])
        self.validation: DataSet = whole.subset(order[KEPT_ASIDE : 2 * KEPT_ASIDE])
        self.train: DataSet = whole.subset(order[2 * KEPT_ASIDE :])
        self.test: DataSet = load_data(f"parquet:{folder / 'test.parquet'}", preprocess=preprocess)
        self.model = self.untrained(args.depth)
        path = args.shared / "checkpoints" / f"resnet{args.depth}-cifar10-jpeg.safetensors"
        load_weights(self.model, read_weights(path), where=path.name)
        self.inputs = torch.zeros(2, 3, 32, 32, device=self.device)
        self.units: UnitMap = find_units(self.model, self.inputs)
        self._kept: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._few: dict[int, DataSet] = {}

    def untrained(self, depth: int, seed: int = 0) -> nn.Module:
        """Return a ResNet of the example with its own initial weights."""
        with isolated_rng(seed):
            model: nn.Module = load_function(f"{MODEL.name}:resnet", MODEL.parent)(depth)
        return model.to(self.device, memory_format=torch.channels_last).eval()

    def blocks(self) -> list[str]:
        """Return the names of the removable units, first to last."""
        return list(self.units.names)

    def placed(self, data: DataSet, batch_size: int = BATCH) -> list[tuple[Tensor, Tensor]]:
        """Return the batches of a small data set in memory, on the device."""
        if id(data) not in self._kept:
            self._kept[id(data)] = [
                (self._put(x), y.to(self.device)) for x, y in data.batches(batch_size)
            ]
        return self._kept[id(data)]

    def few(self, images: int) -> DataSet:
        """Return the first images of the calibration data, the same object each time."""
        if images not in self._few:
            self._few[images] = self.calibration.subset(range(images))
        return self._few[images]

    def _put(self, x: Tensor) -> Tensor:
        return x.to(self.device).contiguous(memory_format=torch.channels_last)

    def cheap(self) -> torch.autocast:
        """Return bfloat16 arithmetic where weights stay in float32."""
        return torch.autocast(self.device.type, torch.bfloat16)

    def correct(self, model: nn.Module, data: DataSet) -> Correct:
        """Return for every image whether the network is right."""
        found = []
        model.eval()
        with torch.inference_mode(), self.cheap():
            for x, y in self.placed(data):
                found.append((model(x).argmax(1) == y).cpu().numpy())
        return np.concatenate(found)

    def recalibrated_(self, model: nn.Module, batches: int = RECALIBRATION) -> None:
        """Estimate the statistics of normalization anew, on calibration images."""
        with self.cheap():
            recalibrate(model, self.placed(self.calibration)[:batches])

    def recover_(
        self,
        model: nn.Module,
        *,
        steps: int,
        seed: int,
        lr: float = 0.02,
        teacher: nn.Module | None = None,
        validate_every: int = 0,
    ) -> dict[str, Any]:
        """Train in place: SGD with Nesterov momentum, warm-up of a tenth, cosine to zero.

        Batches of 128, crop and flip, weight decay 5e-4 but on norms and biases. The same seed
        gives every network the same images in the same order. With a teacher half of the loss is
        distillation at temperature 2. With `validate_every` the weights that did best on
        validation are kept.
        """
        decayed = [p for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": rest, "weight_decay": 0.0}]
        optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
        best: tuple[float, int, dict[str, Tensor]] = (-1.0, 0, {})
        for step, (x, y) in zip(range(steps), self._stream(seed), strict=False):
            warm = max(1, round(0.1 * steps))
            share = (step - warm) / max(1, steps - warm)
            rate = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * share))
            for group in optimizer.param_groups:
                group["lr"] = lr * rate
            model.train()
            with self.cheap():
                logits = model(x).float()
                loss = F.cross_entropy(logits, y)
                if teacher is not None:
                    with torch.no_grad():
                        guide = teacher(x).float()
                    soft = F.kl_div(
                        F.log_softmax(logits / 2, 1), F.log_softmax(guide / 2, 1),
                        reduction="batchmean", log_target=True,
                    )  # fmt: skip
                    loss = 0.5 * loss + 0.5 * 4 * soft
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            if validate_every and ((step + 1) % validate_every == 0 or step + 1 == steps):
                score = float(self.correct(model, self.validation).mean())
                if score > best[0]:
                    state = {k: v.detach().clone() for k, v in model.state_dict().items()}
                    best = (score, step + 1, state)
        if best[2]:
            model.load_state_dict(best[2])
        model.eval()
        return {"validation": best[0], "best_step": best[1]} if best[2] else {}

    def _stream(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        epoch = 0
        while True:
            shuffled = self.train.batches(
                128,
                shuffle_seed=seed_for("benchmark", seed, epoch),
                augment=Augment(crop_padding=4, flip=True),
            )
            for x, y in shuffled:
                if len(y) == 128:
                    yield self._put(x), y.to(self.device)
            epoch += 1


class Record:
    """A JSON file that grows; every entry says what it cost, and the file where it was measured."""

    def __init__(self, path: Path, args: argparse.Namespace, about: dict[str, Any]) -> None:
        self.path, self._args = path, args
        self._began = time.process_time()
        self.body: dict[str, Any] = {"schema": "srinit.benchmark/1", "about": about, "entries": []}
        self.read()
        if self.body["about"] != about:
            raise SystemExit(f"{path} was measured with {self.body['about']}, not {about}")

    def read(self) -> None:
        """Take what the file holds, where there is one."""
        if self.path.is_file():
            self.body = json.loads(self.path.read_text())

    def find(self, **wanted: Any) -> dict[str, Any] | None:
        """Return the entry with these values, if there is one."""
        for entry in self.body["entries"]:
            if all(entry.get(key) == value for key, value in wanted.items()):
                return dict(entry)
        return None

    def all(self, **wanted: Any) -> list[dict[str, Any]]:
        """Return the entries with these values."""
        return [
            entry
            for entry in self.body["entries"]
            if all(entry.get(key) == value for key, value in wanted.items())
        ]

    def add(self, **values: Any) -> None:
        """Append an entry and write the file; what other processes wrote meanwhile is kept."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.read()
            self.body["entries"].append(values)
            self.body["where"] = where(self._args)
            partial = self.path.with_suffix(".partial")
            partial.write_text(json.dumps(self.body, indent=1) + "\n")
            partial.replace(self.path)

    def check_budget(self) -> None:
        """End the program where the CPU time it may use is spent; the next call goes on."""
        if time.process_time() - self._began > self._args.cpu_seconds:
            raise SystemExit("not complete: run it again")


def packed(correct: Correct) -> str:
    """Return the outcomes of all images as a short text."""
    return base64.b64encode(zlib.compress(np.packbits(correct).tobytes(), 9)).decode()


def unpacked(text: str, count: int = 10_000) -> Correct:
    """Return the outcomes that `packed` wrote."""
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return np.unpackbits(bits)[:count].astype(bool)


def rewrite(page: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name -->` and `<!-- /name -->` in a page that has both."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    old = page.read_text("utf-8") if page.is_file() else ""
    if begin in old and end in old:
        head, tail = old.split(begin)[0], old.split(end)[1]
        page.write_text(f"{head}{begin}\n{text.strip()}\n\n{end}{tail}", "utf-8")


def where(args: argparse.Namespace) -> dict[str, Any]:
    """Return machine, versions and command."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].partition(":")[2].strip() if lines else cpu
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    found = {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": args.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "command": command.replace(str(args.shared), "SHARED"),
    }
    if args.device != "cpu":
        found["gpu"] = torch.cuda.get_device_name()
    return found
