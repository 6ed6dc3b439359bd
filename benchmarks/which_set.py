"""Is a ranking enough, given compensation? Which blocks of a CIFAR ResNet go, by five ways.

    python benchmarks/which_set.py run --depth 56 --blocks 10 15 20
    python benchmarks/which_set.py table

The cost of a set is how far the answers are from the unpruned network's (total variation) on 256
calibration images after the set is cut and realigned on 32 others. Ways: `block_influence` and
`trial` (each block's own cost) rank; `pairs` minimizes the sum of own costs and of what pairs cost
beyond theirs, exactly (`scipy.optimize.milp`); `contiguous` is the run of consecutive blocks with
the least cost (Gromov et al., https://arxiv.org/abs/2403.17887, by cost in place of the angle);
`ours` is the order of field.py. Every set is then cut and compensated on 256 calibration images and
measured on the 10,000 test images. What is in results/which_set.json is not measured again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp

from cifar import HERE, RESULTS, Lab, Record, parser, rewrite
from srinit.compensation import compensated
from srinit.compensation.answers import answers, divergence
from srinit.compensation.variants import fit_variants
from srinit.criteria import score_units
from srinit.surgery import remove_with_origins

PATH = RESULTS / "which_set.json"
PAGE = HERE.parent / "docs" / "compensation.md"
FITTED, JUDGED, FINAL = 32, 256, 256  # calibration images
WAYS = ("block_influence", "ours", "trial", "pairs", "contiguous")


class Costs:
    """Costs of sets after realignment, each measured once.

    Args:
        lab: The network and its data.
        record: Where costs are kept.
    """

    def __init__(self, lab: Lab, record: Record, depth: int) -> None:
        self.lab, self.record, self.depth = lab, record, depth
        few = [x for x, _ in lab.few(FITTED + JUDGED).batches(FITTED)]
        self.fit, self.judge = few[:1], few[1:]
        self.theirs = answers(lab.model, self.judge)

    def of(self, names: Sequence[str]) -> float:
        """Return the mean total variation distance without some blocks."""
        key = {"depth": self.depth, "method": "cost", "removed": sorted(names)}
        known = self.record.find(**key)
        if known is not None:
            return float(known["distance"])
        units = [self.lab.units[name] for name in names]
        inputs = self.lab.inputs
        fitted = fit_variants(self.lab.model, units, self.fit, method="auto", example_inputs=inputs)
        cut, origins = remove_with_origins(self.lab.model, units, example_inputs=inputs)
        state = cut.state_dict()
        for own, name in origins.items():
            if name in fitted.variants.get("realigned", {}):
                state[own].copy_(fitted.variants["realigned"][name])
        found = divergence(self.theirs, answers(cut, self.judge), self.judge, "probabilities")
        self.record.add(**key, distance=round(float(found.mean()), 5))
        return float(found.mean())


def chosen(way: str, count: int, lab: Lab, costs: Costs) -> list[str]:
    """Return so many blocks by one way."""
    blocks = lab.blocks()
    if way == "block_influence":
        batches = lab.placed(lab.few(2048))
        scores = score_units(lab.model, lab.units, batches, criterion="block_influence")
        return list(scores.order[:count])
    if way == "ours":
        path = RESULTS / f"field_orders_resnet{costs.depth}.json"
        entries = json.loads(path.read_text())["entries"]
        order = next(entry["order"] for entry in entries if entry["method"] == "ours")
        return list(order[:count])
    if way == "contiguous":
        runs = [blocks[start : start + count] for start in range(len(blocks) - count + 1)]
        return min(runs, key=costs.of)
    alone = {name: costs.of([name]) for name in blocks}
    if way == "trial":
        return sorted(blocks, key=lambda name: alone[name])[:count]
    pairs = {pair: costs.of(pair) for pair in itertools.combinations(blocks, 2)}
    return by_pairs(blocks, alone, pairs, count)


def by_pairs(
    blocks: Sequence[str],
    alone: dict[str, float],
    pairs: dict[tuple[str, str], float],
    count: int,
) -> list[str]:
    """Return the set of so many blocks with the least sum of own and pairwise costs, exactly."""
    beyond = np.array([pairs[one, two] - alone[one] - alone[two] for one, two in pairs])
    size, number = len(blocks), len(pairs)
    place = {name: index for index, name in enumerate(blocks)}
    rows, lows = [np.r_[np.ones(size), np.zeros(number)]], [float(count)]
    highs = [float(count)]
    for index, (one, two) in enumerate(pairs):  # y = x_one and x_two
        both = np.zeros(size + number)
        both[[place[one], place[two]]], both[size + index] = -1, 1
        rows.append(both)
        lows.append(-1.0)
        highs.append(np.inf)
        for name in (one, two):
            each = np.zeros(size + number)
            each[place[name]], each[size + index] = -1, 1
            rows.append(each)
            lows.append(-np.inf)
            highs.append(0.0)
    found = milp(
        np.r_[[alone[name] for name in blocks], beyond],
        integrality=np.ones(size + number),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(np.array(rows), lows, highs),
        options={"time_limit": 120},
    )
    assert found.x is not None, found.message
    return [name for name in blocks if found.x[place[name]] > 0.5]


def run(lab: Lab, args: argparse.Namespace) -> None:
    """Measure what is not measured yet."""
    record = Record(PATH, args, {"test_images": len(lab.test)})
    costs = Costs(lab, record, args.depth)
    batches = [x for x, _ in lab.few(FINAL).batches(64)]
    for count, way in itertools.product(args.blocks, args.ways):
        about = {"depth": args.depth, "method": "set", "blocks": count, "way": way}
        if record.find(**about) is not None:
            continue
        began = time.process_time()
        names = chosen(way, count, lab, costs)
        seconds, own = time.process_time() - began, costs.of(names)
        gone = [lab.units[name] for name in names]
        cut, origins = remove_with_origins(lab.model, gone, example_inputs=lab.inputs)
        found = compensated(lab.model, cut, origins, batches)
        accuracy = float(lab.correct(found.model, lab.test).mean())
        record.add(
            **about, removed=names, distance=round(own, 4), accuracy=accuracy,
            chosen=found.chosen, choosing_cpu_seconds=round(seconds, 1),
        )  # fmt: skip
        print(about, f"{own:.4f} {accuracy:.4f} {seconds:.0f} s", flush=True)


def table(path: Path) -> str:
    """Return accuracy by way and number of blocks."""
    entries = [e for e in json.loads(path.read_text())["entries"] if e["method"] == "set"]
    lines = [
        "| network | blocks out | " + " | ".join(WAYS) + " |",
        "|---|---|" + "---|" * len(WAYS),
    ]
    for depth, blocks in sorted({(e["depth"], e["blocks"]) for e in entries}):
        cells = []
        for way in WAYS:
            known = [
                e for e in entries if (e["depth"], e["blocks"], e["way"]) == (depth, blocks, way)
            ]
            cells.append(f"{100 * known[0]['accuracy']:.1f}" if known else "")
        lines.append(f"| ResNet-{depth} | {blocks} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    given = parser(__doc__)
    given.add_argument("task", choices=["run", "table"])
    given.add_argument("--blocks", type=int, nargs="+", default=[3, 4])
    given.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    arguments = given.parse_args()
    if arguments.task == "run":
        torch.set_num_threads(arguments.threads)
        run(Lab(arguments), arguments)
    text = table(PATH)
    rewrite(PAGE, "which set", text)
    print(text)
