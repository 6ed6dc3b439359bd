"""What makes up for a cut without training and without labels, on CIFAR-10.

    python benchmarks/compensation.py run --depth 56 --blocks 10 15 20 --images 30 1000 --seeds 3
    python benchmarks/compensation.py run --depth 56 --order published --blocks 10
    python benchmarks/compensation.py run --network vgg --weights FILE
    python benchmarks/compensation.py table

Blocks of a ResNet go in the order of `field.py order` ("ours", by trials), or are the published
set. Units of the networks of `networks.py` go in the order of what the removal of one alone does
to the answers on 500 calibration images; 20 and 40 % of them go. The images, without labels, are
drawn from the 5,000 calibration images by a seed; accuracy is that of the 10,000 test images.
"chosen" is what `srinit.compensate` takes by held-out images among all candidates, "recalibrated"
uses all the images. A run goes on where it stopped; entries are in results/compensation.json, and
`table` writes docs/compensation.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cifar import HERE, RESULTS, Lab, Record, parser, rewrite
from field import PUBLISHED
from networks import NETWORKS, build
from srinit.compensation import compensated, recalibrate
from srinit.compensation.answers import answers, divergence
from srinit.errors import PruneError
from srinit.networks import load_weights, read_weights
from srinit.rng import seed_for
from srinit.surgery import remove_with_origins
from srinit.units import find_units

PATH = RESULTS / "compensation.json"
PAGE = HERE.parent / "docs" / "compensation.md"
SHARES = (0.2, 0.4)  # of the units of a network of `networks.py`
RANKED_ON = 500  # calibration images
ORDERS = {
    "ours": "by earlier trials",
    "block_influence": "by block influence",
    "published": "published set",
}
LABELS = {"vgg": "VGG-16-BN", "vit": "ViT", "bottleneck": "Bottlenecks", "mobilenet": "MobileNetV2"}


class Other(Lab):
    """A network of `networks.py` with weights from a file, and the data."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args)
        self.model = build(args.network).to(memory_format=torch.channels_last).eval()
        load_weights(self.model, read_weights(args.weights), where=args.weights.name)
        self.units = find_units(self.model, self.inputs, include_plain=args.network == "vgg")


def ranked(lab: Lab) -> list[str]:
    """Return the units by what the removal of each alone does to answers, least first."""
    batches = [x for x, _ in lab.few(RANKED_ON).batches(250)]
    theirs, found = answers(lab.model, batches), {}
    for name in lab.units.names:
        try:
            cut, _ = remove_with_origins(lab.model, [lab.units[name]], example_inputs=lab.inputs)
        except PruneError:
            continue  # what enters and what leaves it have other shapes
        ours = answers(cut, batches)
        found[name] = float(divergence(theirs, ours, batches, "probabilities").mean())
    return sorted(found, key=lambda name: found[name])


def removals(lab: Lab, args: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """Return what is cut: (order, units) by number of units."""
    if args.network is not None:
        order = ranked(lab)
        counts = args.blocks or [max(1, round(share * len(order))) for share in SHARES]
        return [("removal", order[:count]) for count in counts]
    if args.order == "published":
        return [("published", [lab.blocks()[index] for index in PUBLISHED])]
    path = RESULTS / f"field_orders_resnet{args.depth}.json"
    entries = json.loads(path.read_text())["entries"]
    order = next(entry["order"] for entry in entries if entry["method"] == args.order)
    counts = args.blocks or ([10, 15, 20] if args.depth == 56 else [3, 4])
    return [(args.order, list(order[:count])) for count in counts]


def run(lab: Lab, args: argparse.Namespace) -> None:
    """Measure what is not measured yet."""
    record = Record(PATH, args, {"test_images": len(lab.test)})
    label = LABELS.get(args.network or "", f"ResNet-{args.depth}")
    for kind, names in removals(lab, args):
        gone = [lab.units[name] for name in names]
        cut, origins = remove_with_origins(lab.model, gone, example_inputs=lab.inputs)
        about = {"network": label, "blocks": len(names), "order": kind}
        if record.find(network=label, method="unpruned") is None:
            accuracy = float(lab.correct(lab.model, lab.test).mean())
            record.add(network=label, method="unpruned", accuracy=accuracy)
        if record.find(**about, method="nothing") is None:
            accuracy = float(lab.correct(cut, lab.test).mean())
            record.add(**about, method="nothing", removed=names, accuracy=accuracy)
        for seed in range(args.seeds):
            for images in args.images:
                _measure(lab, record, {**about, "images": images, "seed": seed}, cut, origins)


def _measure(
    lab: Lab, record: Record, about: dict[str, Any], cut: nn.Module, origins: dict[str, str]
) -> None:
    noise = np.random.default_rng(seed_for("compensation", about["seed"]))
    positions = noise.permutation(len(lab.calibration))[: about["images"]].tolist()
    size = min(125, max(10, about["images"] // 3))
    batches = [x for x, _ in lab.calibration.subset(positions).batches(size)]
    if record.find(**about, method="recalibrated") is None:
        again = copy.deepcopy(cut)
        recalibrate(again, [(x, None) for x in batches])
        accuracy = float(lab.correct(again, lab.test).mean())
        record.add(**about, method="recalibrated", accuracy=accuracy)
    if record.find(**about, method="chosen") is not None:
        return
    began = time.process_time()
    found = compensated(lab.model, cut, origins, batches)
    seconds = time.process_time() - began
    accuracy = float(lab.correct(found.model, lab.test).mean())
    divergences = {each.name: round(each.distance, 4) for each in found.choice.candidates}
    record.add(
        **about,
        method="chosen",
        chosen=found.chosen,
        accuracy=accuracy,
        cpu_seconds=round(seconds, 1),
        held_out=divergences,
    )
    print(about, found.chosen, accuracy, f"{seconds:.0f} s", flush=True)


def table(path: Path) -> str:
    """Return the table of all entries: mean over seeds, lowest and highest in brackets."""
    entries = json.loads(path.read_text())["entries"]
    lines = [
        "| network (unpruned) | units out | images | seeds | nothing | recalibrated | chosen by "
        "held-out images | chosen | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows = [e for e in entries if e["method"] == "chosen"]
    keys = {(e["network"], e["blocks"], e["order"], e["images"]) for e in rows}
    for network, blocks, order, images in sorted(keys):
        cut = {"network": network, "blocks": blocks, "order": order}
        nothing = _values(entries, **cut, method="nothing")[0]
        again = _values(entries, **cut, images=images, method="recalibrated")
        taken = [e for e in rows if _fits(e, {**cut, "images": images})]
        whole = _values(entries, network=network, method="unpruned")
        of = f" ({whole[0]:.1f})" if whole else ""
        names = ", ".join(sorted({e["chosen"] for e in taken}))
        seconds = np.mean([e["cpu_seconds"] for e in taken])
        which = f" ({ORDERS[order]})" if order in ORDERS else ""
        lines.append(
            f"| {network}{of} | {blocks}{which} | {images} | {len(taken)} | {nothing:.1f} | "
            f"{_spread(again)} | {_spread([100 * e['accuracy'] for e in taken])} | {names} | "
            f"{seconds:.0f} |"
        )
    return "\n".join(lines)


def _fits(entry: dict[str, Any], about: dict[str, Any]) -> bool:
    return all(entry.get(key) == value for key, value in about.items())


def _values(entries: Sequence[dict[str, Any]], **about: Any) -> list[float]:
    return [100 * e["accuracy"] for e in entries if _fits(e, about)]


def _spread(values: list[float]) -> str:
    mean = f"{np.mean(values):.1f}"
    return f"{mean} ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else mean


if __name__ == "__main__":
    given = parser(__doc__)
    given.add_argument("task", choices=["run", "table"])
    given.add_argument("--blocks", type=int, nargs="+", help="how many units go")
    given.add_argument("--images", type=int, nargs="+", default=[30, 1000])
    given.add_argument("--seeds", type=int, default=3)
    given.add_argument("--order", default="ours", help="a method of field.py order, or published")
    given.add_argument("--network", choices=sorted(NETWORKS))
    given.add_argument("--weights", type=Path, help="of --network, as networks.py writes them")
    arguments = given.parse_args()
    if (arguments.network is None) != (arguments.weights is None):
        given.error("--network and --weights go together")
    if arguments.task == "run":
        torch.set_num_threads(arguments.threads)
        run((Lab if arguments.network is None else Other)(arguments), arguments)
    text = table(PATH)
    rewrite(PAGE, "compensation", text)
    print(text)
