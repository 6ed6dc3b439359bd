"""What makes up for a cut without training and without labels, on CIFAR-10.

    python benchmarks/compensation.py run --depth 56 --blocks 10 15 20 --images 30 1000 --seeds 3
    python benchmarks/compensation.py table

Blocks go in the order of `field.py order` ("ours", by trials). The images, without labels, are
drawn from the 5,000 calibration images by a seed; accuracy is that of the 10,000 test images.
"chosen" is what `srinit.compensate` takes by held-out images among all candidates, "recalibrated"
uses all the images. A run goes on where it stopped; entries are in results/compensation.json.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cifar import RESULTS, Lab, Record, parser
from srinit.compensation import compensated, recalibrate
from srinit.rng import seed_for
from srinit.surgery import remove_with_origins

PATH = RESULTS / "compensation.json"


def order(depth: int, method: str) -> list[str]:
    """Return the blocks in the order in which they go."""
    entries = json.loads((RESULTS / f"field_orders_resnet{depth}.json").read_text())["entries"]
    return list(next(entry["order"] for entry in entries if entry["method"] == method))


def run(lab: Lab, args: argparse.Namespace) -> None:
    """Measure what is not measured yet."""
    record = Record(PATH, args, {"test_images": len(lab.test)})
    for count in args.blocks:
        names = order(args.depth, args.order)[:count]
        gone = [lab.units[name] for name in names]
        cut, origins = remove_with_origins(lab.model, gone, example_inputs=lab.inputs)
        about = {"depth": args.depth, "blocks": count, "order": args.order}
        if record.find(**about, method="nothing") is None:
            accuracy = float(lab.correct(cut, lab.test).mean())
            record.add(**about, method="nothing", accuracy=accuracy)
        for images in args.images:
            for seed in range(args.seeds):
                each = {**about, "images": images, "seed": seed}
                if record.find(**each, method="chosen") is None:
                    _measure(lab, record, each, cut, origins)


def _measure(
    lab: Lab, record: Record, about: dict[str, int], cut: nn.Module, origins: dict[str, str]
) -> None:
    noise = np.random.default_rng(seed_for("compensation", about["seed"]))
    positions = noise.permutation(len(lab.calibration))[: about["images"]].tolist()
    size = min(125, max(10, about["images"] // 3))
    batches = [x for x, _ in lab.calibration.subset(positions).batches(size)]
    again = copy.deepcopy(cut)
    recalibrate(again, [(x, None) for x in batches])
    record.add(**about, method="recalibrated", accuracy=float(lab.correct(again, lab.test).mean()))
    began = time.process_time()
    found = compensated(lab.model, cut, origins, batches)
    seconds = time.process_time() - began
    record.add(
        **about,
        method="chosen",
        chosen=found.chosen,
        accuracy=float(lab.correct(found.model, lab.test).mean()),
        cpu_seconds=round(seconds, 1),
    )
    accuracy = record.body["entries"][-1]["accuracy"]
    print(about, found.chosen, accuracy, f"{seconds:.0f} s", flush=True)


def table(path: Path) -> str:
    """Return the table of all entries: mean over seeds, lowest and highest in brackets."""
    entries = json.loads(path.read_text())["entries"]
    lines = [
        "| network | blocks out | images | nothing | recalibrated | chosen by held-out images |",
        "|---|---|---|---|---|---|",
    ]
    keys = sorted({(e["depth"], e["blocks"], e["images"]) for e in entries if "images" in e})
    for depth, blocks, images in keys:
        rows = [e for e in entries if (e["depth"], e["blocks"]) == (depth, blocks)]
        nothing = next(e["accuracy"] for e in rows if e["method"] == "nothing")
        cells = []
        for method in ("recalibrated", "chosen"):
            values = [
                100 * e["accuracy"]
                for e in rows
                if e["method"] == method and e.get("images") == images
            ]
            cells.append(f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
        lines.append(
            f"| ResNet-{depth} | {blocks} | {images} | {100 * nothing:.1f} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    given = parser(__doc__)
    given.add_argument("task", choices=["run", "table"])
    given.add_argument("--blocks", type=int, nargs="+", default=[10, 15, 20])
    given.add_argument("--images", type=int, nargs="+", default=[30, 1000])
    given.add_argument("--seeds", type=int, default=3)
    given.add_argument("--order", default="ours", help="a method of field.py order")
    arguments = given.parse_args()
    if arguments.task == "run":
        torch.set_num_threads(arguments.threads)
        run(Lab(arguments), arguments)
    print(table(PATH))
