"""False alarms of `srinit monitor` on healthy logs, drifts found and what they were put down to.

ResNet-20 answers CIFAR-10's test images once, plain, darker, blurred, and with noise on its weights
(a damaged model); ResNet-56 answers on the shadow. Every log has a baseline of its own; baseline
and log are drawn without replacement, so no image is in both or in a log twice. Beside it: the
power of the planner, simulated, and a log of a million lines.

    PYTHONPATH=src:benchmarks python benchmarks/monitor.py --shared ../shared --answers FOLDER
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import nn

from srinit.functions import load_function
from srinit.monitor import (
    LogReader,
    Observations,
    Reference,
    Watch,
    WatchSettings,
    detect_drift,
    later_labels,
    observe_log,
    plan_test,
)
from srinit.monitor.diagnosis import diagnose
from srinit.networks import load_weights, read_weights
from srinit.operations.observe import from_arrays, observe, to_arrays
from srinit.sources import DataSet, Preprocess, load_data
from srinit.sources.examples import PixelArrays
from srinit.sources.pool import Pool
from srinit.stats.paired import clopper_pearson, tango_interval

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "monitor.json"
BASELINE, LOG, SHADOW = 4000, 3000, 0.1
SETTINGS = WatchSettings()
MIXES = {"one class 1.5 times as often": 1.5, "one class twice as often": 2.0}
POINTS = [
    (m, d, x) for m in (0.01, 0.02, 0.03) for d, x in ((0.04, 0.0), (0.08, 0.0), (0.12, 0.004))
]


def changed(data: DataSet, change: Callable[[Image.Image], Image.Image]) -> DataSet:
    pixels = np.stack([np.asarray(change(data.image(i).convert("RGB"))) for i in range(len(data))])
    examples = PixelArrays(pixels, data.names, data.targets)
    pool = Pool("changed", examples, data.class_names, data.pool.preprocess)
    return DataSet(pool, tuple(range(len(pool))))


def network(shared: Path, name: str) -> nn.Module:
    model = load_function(f"{HERE.parent / 'examples' / 'cifar10' / 'model.py'}:{name}", Path())()
    path = shared / "checkpoints" / f"{name}-cifar10-jpeg.safetensors"
    load_weights(model, read_weights(path), where=path.name)
    return model.eval()


def damaged(model: nn.Module) -> nn.Module:
    found, random = copy.deepcopy(model), torch.Generator().manual_seed(0)
    for weight in found.parameters():
        if weight.ndim == 4:
            noise = torch.randn(weight.shape, generator=random)
            weight.data += 0.15 * weight.data.std() * noise
    return found


def answers(shared: Path, folder: Path) -> dict[str, Observations]:
    """Return what is seen on all test images, by case; answered once and kept."""
    names = ("plain", "dark", "blur", "damaged")
    if not all((folder / f"{name}.npz").is_file() for name in names):
        test = load_data(
            f"parquet:{shared / 'data' / 'cifar10-jpeg' / 'test.parquet'}",
            preprocess=Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        )
        small, large = network(shared, "resnet20"), network(shared, "resnet56")
        dark = changed(test, lambda image: image.point(lambda value: int(value * 0.9)))
        blur = changed(test, lambda image: image.filter(ImageFilter.GaussianBlur(0.5)))
        cases = {"plain": (small, test), "dark": (small, dark), "blur": (small, blur),
                 "damaged": (damaged(small), test)}  # fmt: skip
        for name, (model, data) in cases.items():
            found = observe(model, data, batch_size=256, unpruned=large)
            np.savez(folder / f"{name}.npz", **to_arrays(found), targets=data.targets)
    found = {}
    for name in names:
        arrays = dict(np.load(folder / f"{name}.npz"))
        targets = arrays.pop("targets")
        # Logs of edge packages hold no features; labels are nobody's.
        found[name] = replace(from_arrays(arrays), features=None, right=None)
    found["targets"] = targets
    return found


def mixed(targets: np.ndarray, factor: float, random: np.random.Generator) -> np.ndarray:
    """Return a log in which class 0 comes `factor` times as often, as chance has it."""
    often, others = np.flatnonzero(targets == 0), np.flatnonzero(targets != 0)
    count = min(int(random.binomial(LOG, 0.1 * factor)), len(often))
    chosen = [random.permutation(often)[:count], random.permutation(others)[: LOG - count]]
    return random.permutation(np.concatenate(chosen))


def logged(seen: Observations, rows: np.ndarray, random: np.random.Generator) -> Observations:
    """Return the part that a log holds: the shadow answered a share."""
    part = seen.part(rows)
    asked = random.random(len(rows)) < SHADOW
    return replace(part, agrees=np.where(asked, part.agrees, np.nan))


def case_of(
    name: str, seen: dict[str, Any], rest: np.ndarray, random: np.random.Generator
) -> Observations:
    if name in MIXES:
        return logged(
            seen["plain"], rest[mixed(seen["targets"][rest], MIXES[name], random)], random
        )
    source = name if name in ("dark", "blur", "damaged") else "plain"
    found = logged(seen[source], rest[:LOG], random)
    if name == "confidence":
        return replace(found, confidence=np.maximum(found.confidence - 0.02, 0.0))
    return found


def drifts(seen: dict[str, Any], logs: int, healthy: int) -> dict[str, Any]:
    cases = {"healthy": healthy, **dict.fromkeys(("dark", "blur", "confidence", "damaged"), logs),
             **dict.fromkeys(MIXES, logs)}  # fmt: skip
    found: dict[str, Any] = {
        name: {"logs": 0, "alarms": 0, "windows": 0, "beyond": 0, "lines": [], "quantities": {},
               "causes": {}, "rollback": {}} for name in cases
    }  # fmt: skip
    for number in range(healthy):
        random = np.random.default_rng([2, number])
        order = random.permutation(len(seen["targets"]))
        reference = Reference(seen["plain"].part(order[:BASELINE]), num_classes=10, seed=number)
        for name, most in cases.items():
            if number >= most:
                continue
            report = detect_drift(
                reference, case_of(name, seen, order[BASELINE:], random), SETTINGS
            )
            row, said = found[name], diagnose(report)
            row["logs"] += 1
            row["windows"] += len(report.windows)
            row["beyond"] += sum(bool(window.beyond) for window in report.windows)
            row["alarms"] += report.alarm
            for quantity in (
                report.causes
                if name != "healthy"
                else [each for window in report.windows for each in window.beyond]
            ):
                row["quantities"][quantity] = row["quantities"].get(quantity, 0) + 1
            if said is not None and report.first_alarm is not None:
                row["lines"].append((report.first_alarm + 1) * report.window)
                row["causes"][said.cause] = row["causes"].get(said.cause, 0) + 1
                row["rollback"][said.rollback] = row["rollback"].get(said.rollback, 0) + 1
    for row in found.values():
        row["median_lines"] = float(np.median(row["lines"])) if row["lines"] else None
        del row["lines"]
    row = found["healthy"]
    row["share_beyond"] = row["beyond"] / row["windows"]
    row["share_beyond_95"] = clopper_pearson(row["beyond"], row["windows"], 0.95)
    return found


def powers(simulations: int) -> list[dict[str, Any]]:
    random, rows = np.random.default_rng(3), []
    for margin, discordant, drop in POINTS:
        count = plan_test(margin, discordant=discordant, expected_drop=drop).num_examples
        shares = [(discordant + drop) / 2, (discordant - drop) / 2, 1 - discordant]
        draws = random.multinomial(count, shares, size=simulations)[:, :2]
        pairs, times = np.unique(draws, axis=0, return_counts=True)
        passed = [tango_interval(int(a), int(b), count, 0.95)[1] <= margin for a, b in pairs]
        power = float(np.array(passed) @ times) / simulations
        rows.append({"margin": margin, "discordant": discordant, "drop": drop, "asked": 0.8,
                     "images": count, "simulated": power})  # fmt: skip
    return rows


def lines(seen: dict[str, Any], count: int) -> dict[str, Any]:
    """Return what a long log of plain answers costs to read and judge."""
    plain, random = seen["plain"], np.random.default_rng(4)
    rows = random.integers(0, len(plain), count)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        columns = ("confidence", "brightness", "contrast", "sharpness")
        table = np.stack([getattr(plain, name) for name in columns], 1)[rows].tolist()
        with path.open("w") as file:
            for number, (row, values) in enumerate(zip(rows.tolist(), table, strict=True)):
                minutes, second = divmod(number // 20, 60)
                hours, minute = divmod(minutes, 60)
                stamp = f"2026-11-{1 + hours // 24:02d}T{hours % 24:02d}:{minute:02d}:{second:02d}Z"
                body = {"time": stamp, "model": "m" * 64, "image": f"i{number}",
                        "prediction": str(plain.prediction[row]), "latency_ms": 2.0,
                        **dict(zip(columns, values, strict=True))}  # fmt: skip
                file.write(json.dumps(body) + "\n")
        reference = Reference(plain.part(np.arange(BASELINE)), num_classes=10)
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        reader = LogReader("m" * 64, [str(n) for n in range(10)], labels=later_labels(path))
        watch = Watch(reference, SETTINGS)
        for observed in observe_log(path, reader):
            watch.add(observed)
        windows = len(watch.finish().windows)
        return {"lines": reader.count.used, "windows": windows,
                "cpu_seconds": round(time.process_time() - began, 1),
                "more_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024,
                "size_mb": path.stat().st_size // 2**20}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared")
    parser.add_argument("--answers", type=Path, required=True, help="folder to keep answers in")
    parser.add_argument("--logs", type=int, default=60, help="of every drift")
    parser.add_argument("--healthy", type=int, default=200)
    parser.add_argument("--lines", type=int, default=1_000_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    args.answers.mkdir(parents=True, exist_ok=True)
    seen = answers(args.shared, args.answers)
    answered = time.process_time() - began
    long = lines(seen, args.lines)
    body = {
        "what": "ResNet-20 on CIFAR-10 test images, ResNet-56 on a shadow of 10 %; no labels",
        "baseline": BASELINE, "log": LOG, "window": SETTINGS.window, "confirm": SETTINGS.confirm,
        "asked_false_alarm": SETTINGS.false_alarm,
        "cases": drifts(seen, args.logs, args.healthy),
        "power": powers(2000), "simulations": 2000, "long_log": long,
        "seconds_to_answer": round(answered), "cpu_seconds": round(time.process_time() - began),
        "torch": torch.__version__, "numpy": np.__version__, "processor": platform.machine(),
    }  # fmt: skip
    RESULTS.write_text(json.dumps(body, indent=2) + "\n")
    print(json.dumps(body, indent=2))


if __name__ == "__main__":
    main()
