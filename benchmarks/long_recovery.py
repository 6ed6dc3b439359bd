"""Where recovery ends, and not where it begins: thousands of steps after a compensated cut.

    python benchmarks/long_recovery.py run [--depth 56 --blocks 15] [--steps 2800] [--seeds 3]
    python benchmarks/long_recovery.py table

The blocks are those that trials chose in `which_set.py`. All training images but those kept aside,
distillation from the unpruned network, crop and flip, SGD with a
peak of `--lr`, batch 128; the best weights by validation, once an epoch. Test images are read once,
by the weights that are kept. `--blocks 0` trains the unpruned network in the same way. Repeat a
command until it says that it is complete: a training goes on from its state, and what is measured
is kept.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from cifar import HERE, RESULTS, Lab, Record, packed, parser, rewrite, unpacked
from recipes import cut
from srinit.cost import count_cost
from srinit.finetune import Recipe, fine_tune
from srinit.sources import Augment
from srinit.stats.paired import tango_interval

BATCH, FIT = 128, 1000


def chosen(depth: int, blocks: int) -> list[str]:
    """Return the blocks that trials chose."""
    if blocks == 0:
        return []
    entries = json.loads((RESULTS / "which_set.json").read_text())["entries"]
    if blocks == 2:  # the pair of least distance
        pairs = [
            e for e in entries
            if e.get("depth") == depth and e["method"] == "cost" and len(e["removed"]) == blocks
        ]  # fmt: skip
        return list(min(pairs, key=lambda e: e["distance"])["removed"])
    wanted = {"depth": depth, "method": "set", "blocks": blocks, "way": "trial"}
    (found,) = [e for e in entries if all(e.get(k) == v for k, v in wanted.items())]
    return list(found["removed"])


def run(args: argparse.Namespace, record: Record) -> None:
    """Train what is missing."""
    lab = Lab(args)
    if record.find(depth=args.depth, blocks=None) is None:
        correct = lab.correct(lab.model, lab.test)
        record.add(depth=args.depth, blocks=None, correct=packed(correct),
                   accuracy=float(correct.mean()))  # fmt: skip
    gone = chosen(args.depth, args.blocks)
    start = lab.model
    if gone:
        fit = [x for x, _ in lab.few(FIT).batches(BATCH)]
        start = cut(lab.model, gone, lab.inputs, fit)
    flops = count_cost(start, lab.inputs).flops / count_cost(lab.model, lab.inputs).flops
    for seed in range(args.seeds):
        key = {
            "depth": args.depth,
            "blocks": args.blocks,
            "lr": args.lr,
            "steps": args.steps,
            "views": args.views,
        }
        if record.find(**key, seed=seed) is not None:
            continue
        model = copy.deepcopy(start)
        per_epoch = len(lab.train.batches(BATCH))
        recipe = Recipe(
            epochs=(args.steps - 0.5) / per_epoch, batch_size=BATCH, lr=args.lr, views=args.views
        )
        began = time.process_time()
        log = fine_tune(
            model, lab.train, list(lab.validation.batches(250)), teacher=lab.model, recipe=recipe,
            augment=Augment(crop_padding=4, flip=True), seed=seed,
            state=Path(args.state) / f"{'-'.join(map(str, key.values()))}-{seed}.safetensors",
            on_progress=lambda done, total, note: (
                print(done, total, note, flush=True) if done % 100 == 0 else None
            ),
        )  # fmt: skip
        spent = round(time.process_time() - began)
        model.eval()
        correct = lab.correct(model, lab.test)
        record.add(
            **key, seed=seed, removed=gone, flops_removed=round(1 - flops, 4),
            start=round(float(log.points[0].validation_score or 0), 4),
            curve=[[p.step, round(p.validation_score or 0, 4)] for p in log.points],
            best_step=log.best_step, cpu_seconds=spent, accuracy=float(correct.mean()),
            correct=packed(correct),
        )  # fmt: skip
        print(args.depth, args.blocks, seed, float(correct.mean()), spent, flush=True)
    print("complete")


def table(record: Record) -> str:
    """Return the table as markdown."""
    lines = [
        "| network | cut | FLOPs removed | steps, seeds, peak rate | versions of an image "
        "| test "
        "| change against the checkpoint (95 %) "
        "| against the unpruned network, trained the same | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows = [e for e in record.body["entries"] if e["blocks"] is not None]
    keys = sorted({(e["depth"], e["blocks"], e["steps"], e["lr"], e["views"] or 0) for e in rows})
    for depth, blocks, steps, rate, views in keys:
        same: dict[str, Any] = {"depth": depth, "steps": steps, "lr": rate, "views": views or None}
        entries = record.all(**same, blocks=blocks)
        (before,) = record.all(depth=depth, blocks=None)
        change = _change(unpacked(before["correct"]), [unpacked(e["correct"]) for e in entries])
        trained = record.all(**same, blocks=0)
        against = ""
        if trained and blocks:
            difference = np.mean([e["accuracy"] for e in entries]) - np.mean(
                [e["accuracy"] for e in trained]
            )
            against = f"{100 * difference:+.2f}"
        accuracies = [100 * e["accuracy"] for e in entries]
        what = "none" if not blocks else f"{blocks} blocks"
        lines.append(
            f"| ResNet-{depth} ({100 * before['accuracy']:.2f}) | {what} "
            f"| {100 * entries[0]['flops_removed']:.1f} % | {steps}, {len(entries)}, {rate:g} "
            f"| {views or 'new'} "
            f"| {np.mean(accuracies):.2f} | {change} | {against} "
            f"| {np.mean([e['cpu_seconds'] for e in entries]):.0f} |"
        )
    return "\n".join(lines)


def _change(before: Any, after: list[Any]) -> str:
    """Return the change in points; its interval is of the test images, of the first seed."""
    mean = 100 * float(np.mean([each.mean() for each in after]) - before.mean())
    gained, lost = int((after[0] & ~before).sum()), int((before & ~after[0]).sum())
    least, most = tango_interval(lost, gained, len(before), 0.95)  # of the loss
    low, high = -most, -least
    return f"{mean:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"


def main() -> None:
    given = parser(__doc__)
    given.add_argument("command", choices=["run", "table"])
    given.add_argument("--blocks", type=int, default=15)
    given.add_argument("--steps", type=int, default=2800)
    given.add_argument("--lr", type=float, default=0.05)
    given.add_argument("--views", type=int, help="versions of every image that repeat")
    given.add_argument("--seeds", type=int, default=1)
    given.add_argument("--state", default=".", help="folder for the state of a training")
    args = given.parse_args()
    about = {"batch": BATCH, "fit": FIT, "test_images": 10_000}
    record = Record(RESULTS / "long_recovery.json", args, about)
    if args.command == "run":
        run(args, record)
    text = table(record)
    rewrite(HERE.parent / "docs" / "finetune.md", "long recovery", text)
    print(text)


if __name__ == "__main__":
    main()
