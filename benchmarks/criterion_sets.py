"""The criteria on trial on whole sets of blocks: what is left to lose after `compensate`.

    python benchmarks/criterion_sets.py cost --depth 20     random sets, and those criteria pick
    python benchmarks/criterion_sets.py cost --depth 56
    python benchmarks/criterion_sets.py table               written into docs/criteria.md

Every set is cut and given to `srinit.compensation.compensated` with 100 calibration images without
labels (ResNet-56: realigned by them, with no choice); its cost is the accuracy that is lost on the
first 2,500 test images, and the distance of the answers from the unpruned network's. A criterion
predicts a set by the sum of its scores. Scores are those of `criterion.py score`, and
`compensated_distance` (`srinit.trial.removal_distances`: 32 images fit, 256 others tell). Repeat
the command until it says that it is complete.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from cifar import HERE, RESULTS, Lab, Record, parser, rewrite
from criterion import Floats
from srinit.compensation import compensated, realign
from srinit.surgery import remove_with_origins
from srinit.trial import removal_distances

NAME, PAGE = "criterion_sets", HERE.parent / "docs" / "criteria.md"
SIZES = {20: (2, 3, 4), 56: (10, 15)}
RANDOM = {20: 8, 56: 6}  # sets of each size
REALIGNED = (56,)  # what takes too long to choose among: realignment alone
IMAGES, BATCH, TEST = 100, 34, 2500
FITTED, TRIED = 32, 256  # calibration images of `compensated_distance`
TRIAL = "compensated_distance"
EARLY = (TRIAL, "block_influence", "taylor", "removal_drop", "reinit_drop, default")
BOOTSTRAP = 2000


def main() -> None:
    found = parser(__doc__)
    found.add_argument("command", choices=["cost", "table"])
    args = found.parse_args()
    if args.command == "cost":
        cost(args)
    rewrite(PAGE, NAME, tables())


def path_of(depth: int) -> Any:
    return RESULTS / f"{NAME}_resnet{depth}.json"


class Bench:
    """The network, the images that compensate and those that tell."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.lab = Lab(args)
        about = {"depth": args.depth, "images": IMAGES, "test": TEST}
        self.record = Record(path_of(args.depth), args, about)
        self.images = [x for x, _ in self.lab.few(IMAGES).batches(BATCH)]
        self.test = self.lab.test.subset(range(TEST))
        self.theirs = self.answers(self.lab.model)

    def answers(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """Return class probabilities, and per image whether the network is right."""
        found, right = [], []
        with torch.inference_mode(), self.lab.cheap():
            for x, y in self.lab.placed(self.test):
                found.append(model(x).float().softmax(1))
                right.append(found[-1].argmax(1) == y)
        return torch.cat(found), torch.cat(right)

    def measure(self, units: list[str], why: str) -> None:
        """Measure a set, if that is not done."""
        units = sorted(units)
        if self.record.find(kind="set", units=units):
            return
        self.record.check_budget()
        began = time.process_time()
        gone = [self.lab.units[name] for name in units]
        cut, origins = remove_with_origins(self.lab.model, gone, example_inputs=self.lab.inputs)
        if self.lab.args.depth in REALIGNED:
            realign(self.lab.model, cut, origins, self.images)
            taken, model = "realigned", cut
        else:
            found = compensated(self.lab.model, cut, origins, self.images)
            taken, model = found.chosen, found.model
        (theirs, before), (ours, after) = self.theirs, self.answers(model.eval())
        drop = float(before.float().mean() - after.float().mean())
        far = float((theirs - ours).abs().sum(1).mean() / 2)
        self.record.add(
            kind="set", units=units, why=why, chosen=taken, drop=drop, distance=far,
            cpu_seconds=round(time.process_time() - began, 1),
        )  # fmt: skip
        print(why, len(units), taken, f"{drop:.4f} {far:.4f}", flush=True)

    def tried(self) -> None:
        """Rank by trials after compensation, if that is not done."""
        if self.record.find(kind="score", criterion=TRIAL):
            return
        began = time.process_time()
        whole = self.lab.calibration.subset(range(IMAGES, IMAGES + FITTED + TRIED))
        fit = [x for x, _ in whole.subset(range(FITTED)).batches(FITTED)]
        data = list(whole.subset(range(FITTED, FITTED + TRIED)).batches(64))
        found = removal_distances(
            self.lab.model, self.lab.units, data, example_inputs=self.lab.inputs, fit=fit
        )
        spent = round(time.process_time() - began, 1)
        self.record.add(kind="score", criterion=TRIAL, scores=found, cpu_seconds=spent)
        print(f"{TRIAL}: {spent} s", flush=True)


def cost(args: argparse.Namespace) -> None:
    """Measure what is missing."""
    bench = Bench(args)
    bench.tried()
    names, noise = bench.lab.blocks(), np.random.default_rng(0)
    for size in SIZES[args.depth]:
        for _ in range(RANDOM[args.depth]):
            bench.measure(noise.permutation(names)[:size].tolist(), "random")
    found = scores_of(args.depth)
    for criterion in sorted(found, key=lambda name: name not in EARLY):
        for size in SIZES[args.depth]:
            bench.measure(first(found[criterion], size), criterion)
    print("complete")


def first(scores: dict[str, float], count: int) -> list[str]:
    """Return the blocks with the lowest scores."""
    return sorted(scores, key=lambda name: scores[name])[:count]


def scores_of(depth: int) -> dict[str, dict[str, float]]:
    """Return the scores of all criteria that scored every block."""
    entries = json.loads(path_of(depth).read_text())["entries"]
    found = {e["criterion"]: dict(e["scores"]) for e in entries if e["kind"] == "score"}
    scored = json.loads((RESULTS / f"criterion_scores_resnet{depth}.json").read_text())["entries"]
    blocks = set(found[TRIAL])
    for entry in scored:
        scores = {k: v for k, v in entry["scores"].items() if v is not None}
        if blocks <= set(scores):
            found[entry["criterion"]] = scores
    return found


def agreement(scores: dict[str, float], sets: dict[int, list[dict[str, Any]]]) -> Floats:
    """Return the mean over sizes of Spearman's correlation, and its bootstrap interval."""
    pairs = [
        np.array([(sum(scores[n] for n in e["units"]), e["distance"]) for e in sets[size]])
        for size in sorted(sets)
    ]
    noise = np.random.default_rng(0)

    def mean(parts: list[Floats]) -> float:
        return float(np.mean([spearmanr(p[:, 0], p[:, 1]).statistic for p in parts]))

    drawn = []
    for _ in range(BOOTSTRAP):
        parts = [pair[noise.integers(0, len(pair), len(pair))] for pair in pairs]
        if all(len(np.unique(p, axis=0)) > 2 for p in parts):
            drawn.append(mean(parts))
    return np.array([mean(pairs), *np.nanquantile(drawn, [0.025, 0.975])])


def tables() -> str:
    """Return the tables of the networks that are measured."""
    text = ""
    for depth, sizes in SIZES.items():
        if not path_of(depth).is_file():
            continue
        entries = json.loads(path_of(depth).read_text())["entries"]
        whole = [e for e in entries if e["kind"] == "set"]
        chance = [e for e in whole if e["why"] == "random"]
        sets = {size: [e for e in chance if len(e["units"]) == size] for size in sizes}
        rows = []
        for criterion, scores in scores_of(depth).items():
            rho, low, high = agreement(scores, sets)
            cells = [_cost(whole, first(scores, size)) for size in sizes]
            rows.append((rho, f"| {criterion} | {rho:+.2f} [{low:+.2f}, {high:+.2f}] | "
                              + " | ".join(cells) + " |"))  # fmt: skip
        means = [f"{100 * np.mean([e['drop'] for e in sets[size]]):.1f} pp" for size in sizes]
        least = [f"{100 * min(e['drop'] for e in whole if len(e['units']) == size):.1f} pp"
                 for size in sizes]  # fmt: skip
        many = " + ".join(str(len(sets[size])) for size in sizes)
        head = " | ".join(f"its {size} blocks" for size in sizes)
        text += (
            f"ResNet-{depth}, {many} random sets:\n\n"
            f"| criterion | rank correlation with the distance, mean over sizes | {head} |\n"
            f"|---|---|{'---|' * len(sizes)}\n"
            + "\n".join(row for _, row in sorted(rows, key=lambda row: -row[0]))
            + f"\n| random sets, mean | 0 | {' | '.join(means)} |"
            + f"\n| least of all measured | | {' | '.join(least)} |\n\n"
        )
    return text


def _cost(entries: list[dict[str, Any]], units: list[str]) -> str:
    found = next((e for e in entries if e["units"] == sorted(units)), None)
    return "" if found is None else f"{100 * found['drop']:.1f} pp"


if __name__ == "__main__":
    main()
