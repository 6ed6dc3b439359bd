"""Which rate and optimizer recover a network, and does a short trial know it beforehand?

    python benchmarks/recipes.py run [--cases resnet20-3 ...] [--steps 60 350] [--seeds 1]
    python benchmarks/recipes.py table

A network is cut and compensated; from there it is trained by the product's own loop with each
candidate recipe, for every number of steps, by the same images in the same order. The last weights
are measured on test images (for the number that is reported) and on held-out calibration images
(what a trial can see: accuracy and the mean loss). Trials are the trainings of few steps.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cifar import HERE, RESULTS, Lab, Record, parser, rewrite
from recovery import CUTS
from srinit.compensation import compensated
from srinit.criteria import score_units
from srinit.finetune import Recipe, fine_tune
from srinit.functions import load_function
from srinit.networks import load_weights, read_weights
from srinit.sources import Augment, DataSet, Preprocess, load_data
from srinit.surgery import remove_with_origins
from srinit.units import find_units

TRIALS = (10, 20)
HELD_OUT = 500
RECIPES: dict[str, dict[str, Any]] = {
    **{f"sgd {rate:g}": {"optimizer": "sgd", "lr": rate} for rate in (0.08, 0.02, 0.005, 0.00125)},
    **{f"adamw {rate:g}": {"optimizer": "adamw", "lr": rate} for rate in (2e-3, 5e-4, 1.25e-4)},
}
INSPECTION = HERE.parent / "examples" / "inspection"


@dataclass(frozen=True)
class Case:
    """A cut and compensated network, and what it is trained and measured on."""

    teacher: nn.Module
    start: nn.Module
    train: DataSet
    held_out: DataSet
    test: DataSet
    augment: Augment
    batch: int


def cut(model: nn.Module, gone: list[str], inputs: torch.Tensor, fit: list[Any]) -> nn.Module:
    """Return the compensated network without some units."""
    units = find_units(model, inputs)
    pruned, origins = remove_with_origins(
        model, [units[name] for name in gone], example_inputs=inputs
    )
    return compensated(model, pruned, origins, fit).model


def cifar(
    args: argparse.Namespace, depth: int, blocks: int, images: int | None = None, batch: int = 128
) -> Case:
    """Return a ResNet on CIFAR-10 without some blocks; trained on `images`, all by default."""
    args.depth = depth
    lab = Lab(args)
    gone = list(CUTS[blocks]) if depth == 20 else least(lab.model, lab.few(200), lab.inputs, blocks)
    fit = [x for x, _ in lab.few(256).batches(128)]
    return Case(
        teacher=lab.model,
        start=cut(lab.model, gone, lab.inputs, fit),
        train=lab.train if images is None else lab.train.subset(range(images)),
        held_out=lab.calibration.subset(range(1000, 1000 + HELD_OUT)),
        test=lab.test.subset(range(args.test)),
        augment=Augment(crop_padding=4, flip=True),
        batch=batch,
    )


def least(model: nn.Module, data: DataSet, inputs: torch.Tensor, blocks: int) -> list[str]:
    """Return the units of least block influence."""
    scores = score_units(
        model, find_units(model, inputs), list(data.batches(100)), criterion="block_influence"
    )
    return [each.unit for each in sorted(scores.units, key=lambda s: s.score or 0.0)[:blocks]]


def inspection(args: argparse.Namespace, images: int) -> Case:
    """Return the example of a line: gray pictures, three classes, few of them."""
    if not (INSPECTION / "parts.safetensors").is_file():
        subprocess.run([sys.executable, INSPECTION / "make.py"], check=True)
    model = load_function("model.py:part_net", INSPECTION)()
    load_weights(model, read_weights(INSPECTION / "parts.safetensors"), where="parts.safetensors")
    preprocess = Preprocess(channels=1, mean=(0.5,), std=(0.25,))
    train, site = (
        load_data(
            f"folder:{INSPECTION}/data/{part}",
            preprocess=preprocess,
            classes=["OK", "dent", "scratch"],
        )
        for part in ("train", "site")
    )
    order = np.random.default_rng(0).permutation(len(site)).tolist()
    chosen = np.random.default_rng(1).permutation(len(train))[:images].tolist()
    inputs = torch.zeros(2, 1, 48, 48)
    held_out = site.subset(order[:HELD_OUT])
    fit = [x for x, _ in site.subset(order[HELD_OUT : HELD_OUT + 256]).batches(128)]
    gone = least(model.eval(), held_out, inputs, 3)
    return Case(
        teacher=model,
        start=cut(model, gone, inputs, fit),
        train=train.subset(chosen),
        held_out=held_out,
        test=site.subset(order[HELD_OUT + 256 :]),
        augment=Augment(),
        batch=64 if images >= 1024 else 32,
    )


CASES: dict[str, Callable[[argparse.Namespace], Case]] = {
    "resnet20-3": lambda args: cifar(args, 20, 3),
    "resnet20-5": lambda args: cifar(args, 20, 5),
    "resnet20-3, 700 images": lambda args: cifar(args, 20, 3, 700, 32),
    "inspection": lambda args: inspection(args, 1400),
    "inspection, 300 images": lambda args: inspection(args, 300),
    "resnet56-13": lambda args: cifar(args, 56, 13),
}


def measured(model: nn.Module, data: DataSet) -> tuple[float, float]:
    """Return accuracy and mean cross entropy."""
    right, lost, count = 0.0, 0.0, 0
    model.eval()
    with torch.inference_mode():
        for x, y in data.batches(250):
            logits = model(x)
            right += float((logits.argmax(1) == y).sum())
            lost += float(F.cross_entropy(logits, y, reduction="sum"))
            count += len(y)
    return right / count, lost / count


def run(args: argparse.Namespace, record: Record) -> None:
    """Measure what is missing."""
    for name in args.cases:
        wanted = [
            (seed, steps, recipe)
            for seed in range(args.seeds)
            for steps in (*TRIALS, *args.steps)
            for recipe in args.recipes
            if record.find(case=name, seed=seed, steps=steps, recipe=recipe) is None
        ]
        if not wanted:
            continue
        case = CASES[name](args)
        for label, network in (("unpruned", case.teacher), ("start", case.start)):
            if record.find(case=name, steps=0, recipe=label) is None:
                add(record, case, network, case=name, seed=None, steps=0, recipe=label, seconds=0.0)
        for seed, steps, recipe in wanted:
            record.check_budget()
            model = copy.deepcopy(case.start)
            per_epoch = len(case.train.batches(case.batch))
            began = time.process_time()
            fine_tune(
                model, case.train, None, teacher=case.teacher, augment=case.augment, seed=seed,
                recipe=Recipe(
                    epochs=(steps - 0.5) / per_epoch, batch_size=case.batch, **RECIPES[recipe]
                ),
            )  # fmt: skip
            spent = round(time.process_time() - began, 1)
            add(
                record, case, model, case=name, seed=seed, steps=steps, recipe=recipe, seconds=spent
            )
    print("complete")


def add(record: Record, data: Case, model: nn.Module, **about: Any) -> None:
    """Measure a network and keep the figures."""
    test, _ = measured(model, data.test)
    held_out, loss = measured(model, data.held_out)
    record.add(**about, test=test, held_out=held_out, loss=loss)
    print(*about.values(), f"test {test:.4f} held out {held_out:.4f} loss {loss:.4f}", flush=True)


def table(args: argparse.Namespace, record: Record) -> None:
    """Write the table into docs/finetune.md."""
    rows = []
    for case in dict.fromkeys(entry["case"] for entry in record.body["entries"]):
        steps = sorted({e["steps"] for e in record.all(case=case)} - {0})
        start, unpruned = (record.find(case=case, recipe=r) for r in ("start", "unpruned"))
        assert start
        assert unpruned
        if not steps:
            continue
        rows += [
            f"{case}: unpruned {100 * unpruned['test']:.1f} %, cut and compensated "
            f"{100 * start['test']:.1f} %.\n",
            "| recipe | " + " | ".join(f"{count} steps" for count in steps) + " |",
            "|---" * (len(steps) + 1) + "|",
        ]
        for recipe in RECIPES:
            if not record.all(case=case, recipe=recipe):
                continue
            cells = []
            for count in steps:
                found = [e["test"] for e in record.all(case=case, steps=count, recipe=recipe)]
                cells.append(f"{100 * float(np.mean(found)):.1f}" if found else "")
            rows.append(f"| {recipe} | " + " | ".join(cells) + " |")
        rows.append("")
    text = "\n".join(rows)
    rewrite(HERE.parent / "docs" / "finetune.md", "recipes", text)
    print(text)


def main() -> None:
    found = parser(__doc__)
    found.add_argument("command", choices=["run", "table"])
    found.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    found.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    found.add_argument("--steps", nargs="+", type=int, default=[60, 350])
    found.add_argument("--seeds", type=int, default=1)
    found.add_argument("--test", type=int, default=5000, help="test images of CIFAR-10")
    args = found.parse_args()
    torch.set_num_threads(args.threads)
    record = Record(RESULTS / "recipes.json", args, {"test": args.test, "held_out": HELD_OUT})
    {"run": run, "table": table}[args.command](args, record)


if __name__ == "__main__":
    main()
