"""What training costs in 32 bits with the default layout, and as `fine_tune` does it by itself.

    python benchmarks/training_speed.py run [--steps 350] [--seeds 3]
    python benchmarks/training_speed.py table

ResNet-20 without three blocks, compensated, is trained by the product's own loop with
distillation: "plain" (32 bits, default memory layout), "channels last" (32 bits) and "auto" (what
`precision: auto` takes on this processor, channels last). The same seed gives every way the same
images in the same order. Accuracy is that of the last weights on the first 5,000 test images;
seconds are processor seconds of one thread. ResNet-56 without ten blocks is timed for 12 steps.

Trainings of ten epochs, on so few images that they are short: there "auto, 3 views" shows three
versions of every image in turn and keeps what the unpruned network says of them.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from cifar import HERE, RESULTS, Lab, Record, parser, rewrite
from recovery import CUTS
from srinit.compensation import compensated
from srinit.finetune import Recipe, arithmetic, fine_tune, loop
from srinit.sources import Augment
from srinit.surgery import remove_with_origins

WAYS: dict[str, dict[str, Any]] = {
    "plain": {"precision": "float32"},
    "channels last": {"precision": "float32"},
    "auto": {"precision": "auto"},
}
EPOCHS = 10
EPOCH_WAYS: dict[str, dict[str, Any]] = {**WAYS, "auto, 3 views": {"precision": "auto", "views": 3}}
IMAGES = {20: 4480, 56: 512}  # of ten epochs
SPEED_STEPS = 12
BATCH = 128


@contextlib.contextmanager
def as_written(way: str) -> Iterator[None]:
    """Leave memory layouts alone where the way is the plain one."""
    before = arithmetic.is_laid_out
    if way == "plain":
        arithmetic.is_laid_out = lambda _: False
    try:
        yield
    finally:
        arithmetic.is_laid_out = before


def trained(
    lab: Lab, start: nn.Module, way: str, *, steps: int, seed: int, images: int | None = None
) -> tuple[Any, float]:
    """Return a trained copy and the processor seconds that training took."""
    data = lab.train if images is None else lab.train.subset(range(images))
    model, teacher = copy.deepcopy(start), copy.deepcopy(lab.model)
    for network in (model, teacher):
        for parameter in network.parameters():
            parameter.data = parameter.data.contiguous()  # the layout that a load gives
    per_epoch = len(data.batches(BATCH))
    recipe = Recipe(epochs=(steps - 0.5) / per_epoch, batch_size=BATCH, **EPOCH_WAYS[way])
    began = time.process_time()
    with as_written(way):
        log = fine_tune(
            model, data, None, teacher=teacher, recipe=recipe,
            augment=Augment(crop_padding=4, flip=True), seed=seed,
        )  # fmt: skip
    assert log.steps == steps
    return model.eval(), time.process_time() - began


def cut(lab: Lab, blocks: tuple[str, ...]) -> nn.Module:
    """Return the compensated network without some blocks."""
    units = [lab.units[name] for name in blocks]
    pruned, origins = remove_with_origins(lab.model, units, example_inputs=lab.inputs)
    batches = [x for x, _ in lab.few(256).batches(BATCH)]
    return compensated(lab.model, pruned, origins, batches).model


def run(args: argparse.Namespace, record: Record) -> None:
    """Measure what is missing."""
    lab = Lab(args)
    test = lab.test.subset(range(5000))
    start = cut(lab, CUTS[3])
    for seed in range(args.seeds):
        for way in WAYS:
            if record.find(depth=20, way=way, seed=seed) is None:
                model, spent = trained(lab, start, way, steps=args.steps, seed=seed)
                accuracy = float(lab.correct(model, test).mean())
                record.add(depth=20, way=way, seed=seed, steps=args.steps, accuracy=accuracy,
                           cpu_seconds=round(spent, 1))  # fmt: skip
                print(20, way, seed, accuracy, round(spent, 1), flush=True)
    args.depth = 56
    lab = Lab(args)
    start = cut(lab, tuple(lab.blocks()[1:20:2]))
    for way in WAYS:
        if record.find(depth=56, way=way) is None:
            trained(lab, start, way, steps=2, seed=0)
            _, spent = trained(lab, start, way, steps=SPEED_STEPS, seed=0)
            record.add(depth=56, way=way, steps=SPEED_STEPS, cpu_seconds=round(spent, 2))
            print(56, way, round(spent, 2), flush=True)
    epochs_of(lab, record, start, args, seeds=1, ways=tuple(EPOCH_WAYS))
    args.depth = 20
    lab = Lab(args)
    start = cut(lab, CUTS[3])
    epochs_of(lab, record, start, args, seeds=args.seeds, ways=("auto", "auto, 3 views"))


def epochs_of(
    lab: Lab, record: Record, start: nn.Module, args: argparse.Namespace, *, seeds: int,
    ways: tuple[str, ...],
) -> None:  # fmt: skip
    """Train for ten epochs of few images, each way."""
    images, depth = IMAGES[args.depth], args.depth
    steps = EPOCHS * -(-images // BATCH)
    test = lab.test.subset(range(5000))
    for seed in range(seeds):
        for way in ways:
            if record.find(depth=depth, way=way, images=images, seed=seed) is None:
                model, spent = trained(lab, start, way, steps=steps, seed=seed, images=images)
                accuracy = float(lab.correct(model, test).mean())
                record.add(depth=depth, way=way, images=images, seed=seed, steps=steps,
                           accuracy=accuracy, cpu_seconds=round(spent, 1))  # fmt: skip
                print(depth, way, seed, accuracy, round(spent, 1), flush=True)


def table(record: Record) -> str:
    """Return the table as markdown."""
    lines = ["| | accuracy, % | processor seconds | times as fast |", "|---|---|---|---|"]
    groups = [(20, None), (56, None), (56, IMAGES[56]), (20, IMAGES[20])]
    for depth, images in groups:
        group = [e for e in record.all(depth=depth) if e.get("images") == images]
        first = "plain" if any(e["way"] == "plain" for e in group) else "auto"
        plain = [e["cpu_seconds"] for e in group if e["way"] == first]
        for way in EPOCH_WAYS:
            entries = [e for e in group if e["way"] == way]
            if not entries or not plain:
                continue
            seconds = [e["cpu_seconds"] for e in entries]
            accuracies = [100 * e["accuracy"] for e in entries if "accuracy" in e]
            shown = (
                f"{np.mean(accuracies):.2f} ({min(accuracies):.2f} to {max(accuracies):.2f})"
                if accuracies
                else ""
            )
            few = "" if images is None else f", {EPOCHS} epochs of {images} images"
            seeds = f"{len(entries)} seed{'s' * (len(entries) > 1)}"
            what = f"ResNet-{depth}, {entries[0]['steps']} steps{few}, {seeds}, {way}"
            lines.append(
                f"| {what} | {shown} | {np.mean(seconds):.0f} "
                f"| {np.mean(plain) / np.mean(seconds):.2f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    given = parser(__doc__)
    given.add_argument("command", choices=["run", "table"])
    given.add_argument("--steps", type=int, default=350)
    given.add_argument("--seeds", type=int, default=3)
    arguments = given.parse_args()
    arguments.depth = 20
    about = {"steps": arguments.steps, "batch": BATCH, "test": 5000}
    kept = Record(RESULTS / "training_speed.json", arguments, about)
    assert loop.laid_out is arithmetic.laid_out
    if arguments.command == "run":
        run(arguments, kept)
    rewrite(HERE.parent / "docs" / "finetune.md", "training speed", table(kept))
    print(table(kept))
