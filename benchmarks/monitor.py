"""False alarms of `srinit.monitor` on undrifted data, and images until it notices drift.

ResNet-20 answers CIFAR-10's test images once, plain and drifted. Baselines of 2,000 images and
production windows are then drawn from the answers, never the same image in both, many times.

    PYTHONPATH=src:benchmarks python benchmarks/monitor.py --shared ../shared
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from srinit.functions import load_function
from srinit.monitor import DriftReport, Observations, Reference, detect_drift
from srinit.networks import load_weights, read_weights
from srinit.operations.observe import observe
from srinit.sources import DataSet, Preprocess, load_data
from srinit.sources.examples import PixelArrays
from srinit.sources.pool import Pool
from srinit.stats.paired import clopper_pearson

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "monitor.json"
BASELINE, WINDOW, CONFIRM, FALSE_ALARM = 2000, 500, 2, 0.01
MOST_WINDOWS = 10
DRIFTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "dark, 90 % of the light": lambda image: image.point(lambda value: int(value * 0.9)),
    "dark, 70 % of the light": lambda image: image.point(lambda value: int(value * 0.7)),
    "blur, radius 0.5": lambda image: image.filter(ImageFilter.GaussianBlur(0.5)),
    "blur, radius 1": lambda image: image.filter(ImageFilter.GaussianBlur(1.0)),
}
SMALL, LONG_WINDOW = "one class 1.5 times as often", 1000
MIXES = {SMALL: 1.5, "one class twice as often": 2.0, "one class 3 times as often": 3.0}
LONG = f"{SMALL}, windows of {LONG_WINDOW}"


def changed(data: DataSet, change: Callable[[Image.Image], Image.Image]) -> DataSet:
    pixels = np.stack([np.asarray(change(data.image(i).convert("RGB"))) for i in range(len(data))])
    examples = PixelArrays(pixels, data.names, data.targets)
    pool = Pool("changed", examples, data.class_names, data.pool.preprocess)
    return DataSet(pool, tuple(range(len(pool))))


def mixed(targets: np.ndarray, factor: float, random: np.random.Generator) -> np.ndarray:
    """Return positions in random order in which class 0 comes `factor` times as often."""
    often, others = np.flatnonzero(targets == 0), np.flatnonzero(targets != 0)
    share = factor * len(often) / len(targets)
    kept = random.choice(others, size=int(len(often) * (1 - share) / share), replace=False)
    return random.permutation(np.concatenate([often, kept]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    test = load_data(
        f"parquet:{args.shared / 'data' / 'cifar10-jpeg' / 'test.parquet'}",
        preprocess=Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    )
    test = test.subset(np.random.default_rng(0).permutation(len(test))[: args.images].tolist())
    model = load_function(f"{HERE.parent / 'examples' / 'cifar10' / 'model.py'}:resnet20", Path())()
    path = args.shared / "checkpoints" / "resnet20-cifar10-jpeg.safetensors"
    load_weights(model, read_weights(path), where=path.name)
    plain = replace(observe(model.eval(), test, batch_size=256), right=None)
    drifted = {
        name: replace(observe(model, changed(test, change), batch_size=256), right=None)
        for name, change in DRIFTS.items()
    }
    answered = time.process_time() - began
    beyond, alarms, windows, quantities = 0, 0, 0, dict[str, int]()
    long_beyond = long_windows = 0
    delays: dict[str, list[int | None]] = {name: [] for name in (*DRIFTS, *MIXES, LONG)}
    causes: dict[str, dict[str, int]] = {name: {} for name in delays}
    for repeat in range(args.repeats):
        random = np.random.default_rng([1, repeat])
        order = random.permutation(len(test))
        reference = Reference(plain.part(order[:BASELINE]), num_classes=10, seed=repeat)
        rest = order[BASELINE:]

        def found(
            observed: Observations, reference: Reference = reference, size: int = WINDOW
        ) -> DriftReport:
            return detect_drift(
                reference, observed, window=size, confirm=CONFIRM, false_alarm=FALSE_ALARM
            )

        good = found(plain.part(rest))
        windows += len(good.windows)
        beyond += sum(bool(window.beyond) for window in good.windows)
        alarms += good.alarm
        long = found(plain.part(rest), size=LONG_WINDOW)
        long_windows += len(long.windows)
        long_beyond += sum(bool(window.beyond) for window in long.windows)
        for window in good.windows:
            for name in window.beyond:
                quantities[name] = quantities.get(name, 0) + 1
        cases = {n: d.part(rest[: MOST_WINDOWS * WINDOW]) for n, d in drifted.items()}
        for name, factor in MIXES.items():
            cases[name] = plain.part(rest[mixed(test.targets[rest], factor, random)])
        cases[LONG] = cases[SMALL]
        for name, observed in cases.items():
            size = LONG_WINDOW if name == LONG else WINDOW
            result = found(observed, size=size)
            noticed = result.first_alarm is not None
            delays[name].append((result.first_alarm + 1) * size if noticed else None)
            for cause in result.causes:
                causes[name][cause] = causes[name].get(cause, 0) + 1
    low, high = clopper_pearson(beyond, windows, 0.95)
    body = {
        "what": "ResNet-20 on CIFAR-10 test images; no label and no unpruned network was watched",
        "baseline": BASELINE, "window": WINDOW, "confirm": CONFIRM, "repeats": args.repeats,
        "asked_false_alarm": FALSE_ALARM,
        "good_windows": windows, "good_windows_beyond": beyond,
        "share_beyond": beyond / windows, "share_beyond_95": [low, high],
        "beyond_by_quantity": quantities,
        "long_window": LONG_WINDOW, "long_good_windows": long_windows,
        "long_good_windows_beyond": long_beyond,
        "streams_of_good_windows": args.repeats, "streams_with_alarm": alarms,
        "drifts": {
            name: {
                "noticed": sum(value is not None for value in found),
                "of": len(found),
                "median_images": float(np.median([np.inf if v is None else v for v in found]))
                if sum(v is not None for v in found) > len(found) / 2 else None,
                "most_images": max((v for v in found if v is not None), default=None),
                "causes": causes[name],
            }
            for name, found in delays.items()
        },
        "seconds_to_answer": round(answered), "cpu_seconds": round(time.process_time() - began),
        "torch": torch.__version__, "numpy": np.__version__, "processor": platform.machine(),
    }  # fmt: skip
    RESULTS.write_text(json.dumps(body, indent=2) + "\n")
    print(json.dumps(body, indent=2))


if __name__ == "__main__":
    main()
