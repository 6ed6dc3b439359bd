"""The criteria on trial once more: the true cost is that after compensation, without training.

    python benchmarks/criterion_compensated.py cost --depth 20
    python benchmarks/criterion_compensated.py cost --depth 56 --only-realigned
    python benchmarks/criterion_compensated.py table       written into docs/criteria.md

Every block is removed alone (of ResNet-56 the nine that `criterion.py` has on trial), and the three
that each criterion of `criterion.py score` ranks first are removed together. What is removed is
made up for by 256 calibration images without labels: 192 fit, 64 choose
(`srinit.compensation.compensated`; `--only-realigned`: realignment on 64, nothing chosen). The cost
is what is lost on the test images (all 10,000; `--only-realigned`: the first 2,000): of accuracy,
and the distance of the answers from the unpruned network's (total variation), which tells small
costs apart that accuracy cannot. Repeat a command until it says that it is complete.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from cifar import HERE, RESULTS, Lab, Record, packed, parser, rewrite
from criterion import Floats, chosen, correlation
from srinit.compensation import compensated, realign, recalibrate
from srinit.surgery import remove_with_origins

IMAGES, FITTED, BATCH = 256, 192, 64
FEWER = 64, 2000  # images that fit, and of the test, where one candidate is fitted alone
TRIAL = 500  # further calibration images, on which a removal is tried
DEPTHS = (20, 56)
FIRST = 3  # of nine blocks, as in `criterion.py`
NAME = "criterion_compensated"
DISTANCE = "distance"


def main() -> None:
    found = parser(__doc__)
    found.add_argument("command", choices=["cost", "table"])
    found.add_argument("--all", action="store_true", help="every block of a deep network")
    found.add_argument("--only-realigned", action="store_true", help="one candidate, not chosen")
    args = found.parse_args()
    if args.command == "cost":
        cost(args)
    text, summary = tables()
    (RESULTS / f"{NAME}_summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    rewrite(HERE.parent / "docs" / "criteria.md", NAME, text)


class Bench:
    """The network, the images that fit, those that try and those that tell, and the record."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.lab, self.only = Lab(args), args.only_realigned
        self.test = self.lab.test
        about: dict[str, Any] = {"depth": args.depth, "images": IMAGES, "fitted": FITTED}
        if self.only:
            self.test = self.test.subset(range(FEWER[1]))
            about |= {"images": FEWER[0], "fitted": FEWER[0], "test": FEWER[1]}
        about |= {"trial": TRIAL, "candidates": "realigned" if self.only else "all"}
        self.record = Record(RESULTS / f"{NAME}_resnet{args.depth}.json", args, about)
        self.images = [x for x, _ in self.lab.few(IMAGES).batches(BATCH)]
        self.trial = self.lab.calibration.subset(range(IMAGES, IMAGES + TRIAL))
        self.theirs = {id(data): self.answers(self.lab.model, data) for data in self.data()}

    def data(self) -> tuple[Any, Any]:
        """Return the test images and the trial images."""
        return self.test, self.trial

    def answers(self, model: nn.Module, data: Any) -> tuple[Tensor, Tensor]:
        """Return class probabilities, and per image whether the network is right."""
        found, right = [], []
        model.eval()
        with torch.inference_mode(), self.lab.cheap():
            for x, y in self.lab.placed(data):
                found.append(model(x).float().softmax(1))
                right.append(found[-1].argmax(1) == y)
        return torch.cat(found), torch.cat(right)

    def lost(self, model: nn.Module, data: Any) -> tuple[dict[str, float], Tensor]:
        """Return what is lost against the unpruned network, and which images are right."""
        (theirs, before), (ours, after) = self.theirs[id(data)], self.answers(model, data)
        drop = float(before.float().mean() - after.float().mean())
        return {"drop": drop, DISTANCE: float((theirs - ours).abs().sum(1).mean() / 2)}, after

    def measure(self, units: list[str], why: str) -> None:
        """Measure a set of units, if that is not done."""
        units = sorted(units)
        if self.record.find(units=units):
            return
        self.record.check_budget()
        began = time.process_time()
        gone = [self.lab.units[name] for name in units]
        cut, origins = remove_with_origins(self.lab.model, gone, example_inputs=self.lab.inputs)
        trial: dict[str, dict[str, float]] = {}
        fresh = [(x, None) for x in self.images[: self.record.body["about"]["fitted"] // BATCH]]
        again, _ = remove_with_origins(self.lab.model, gone, example_inputs=self.lab.inputs)
        recalibrate(again, fresh)
        trial["removed and recalibrated"] = self.lost(again, self.trial)[0]
        start = time.process_time()
        if self.only:
            realign(self.lab.model, cut, origins, [x for x, _ in fresh])
            taken, model = "realigned", cut
        else:
            found = compensated(self.lab.model, cut, origins, self.images)
            taken, model = found.chosen, found.model
        seconds = time.process_time() - start
        trial["removed and compensated"] = self.lost(model, self.trial)[0]
        true, correct = self.lost(model, self.test)
        self.record.add(
            units=units, why=why, chosen=taken, **true, trial=trial,
            correct=packed(correct.numpy()), compensation_seconds=round(seconds, 1),
            cpu_seconds=round(time.process_time() - began, 1),
        )  # fmt: skip
        print(why, units, taken, true, f"{seconds:.0f} s", flush=True)


def cost(args: argparse.Namespace) -> None:
    """Measure what is missing: single blocks, and the first of every ranking."""
    bench = Bench(args)
    names, count = sorted(chosen(bench.lab, args)), FIRST
    for name in names:
        bench.measure([name], "single")
    for criterion, scores in rankings(args.depth, bench.record.body["entries"]).items():
        bench.measure(first(scores, count), f"first by {criterion}")
    print("complete")


def first(scores: dict[str, float], count: int) -> list[str]:
    """Return the blocks with the lowest scores."""
    return sorted(scores, key=lambda name: scores[name])[:count]


def rankings(depth: int, entries: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the scores of every criterion that scored all blocks, and of the trials."""
    singles = {e["units"][0]: e for e in entries if len(e["units"]) == 1}
    scored = json.loads((RESULTS / f"criterion_scores_resnet{depth}.json").read_text())["entries"]
    found = {
        e["criterion"]: {name: float(e["scores"][name]) for name in singles}
        for e in scored
        if all(e["scores"].get(name) is not None for name in singles)
        and e["criterion"] != "removed and recalibrated"  # measured anew below, for all blocks
    }
    for way in ("removed and recalibrated", "removed and compensated"):
        for what in ("drop", DISTANCE):
            values = {name: float(each["trial"][way][what]) for name, each in singles.items()}
            found[f"{way}, {what}"] = values
    return found


def summary(depth: int, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return for every criterion its rank correlations and what its first set costs."""
    singles = {e["units"][0]: e for e in entries if len(e["units"]) == 1}
    names = sorted(singles)
    rows = []
    for criterion, scores in rankings(depth, entries).items():
        ours = np.array([scores[name] for name in names])
        best = sorted(first(scores, FIRST))
        whole = next((e for e in entries if e["units"] == best), None)
        rows.append({
            "criterion": criterion,
            "singles": {w: _agreement(ours, _truth(singles.values(), w)) for w in WHAT},
            "alone": {w: float(np.mean([singles[name][w] for name in best])) for w in WHAT},
            "first": {w: whole[w] for w in WHAT} if whole else None,
        })  # fmt: skip
    rows.sort(key=lambda row: -row["singles"][DISTANCE]["spearman"])
    return {
        "blocks": len(names), "set_size": FIRST,
        "rows": rows,
        "chosen": sorted({e["chosen"] for e in entries}),
        "cpu_seconds": round(sum(e["cpu_seconds"] for e in entries)),
    }  # fmt: skip


WHAT = ("drop", DISTANCE)


def _truth(entries: Any, what: str) -> Floats:
    return np.array([e[what] for e in entries])


def _agreement(scores: Floats, truth: Floats) -> dict[str, float]:
    rho, low, high = correlation(scores, truth)
    tau = float(kendalltau(scores, truth).statistic)
    return {"spearman": rho, "low": low, "high": high, "kendall": tau}


def tables() -> tuple[str, dict[str, Any]]:
    """Return the tables of the networks measured, as markdown and as records."""
    text, found = "", {}
    for depth in DEPTHS:
        path = RESULTS / f"{NAME}_resnet{depth}.json"
        if path.is_file():
            body = json.loads(path.read_text())
            found[path.stem] = summary(depth, body["entries"])
            text += _rendered(body["about"], found[path.stem])
    return text, found


def _rendered(about: dict[str, Any], found: dict[str, Any]) -> str:
    how = "chosen among all candidates" if about["candidates"] == "all" else "realignment alone"
    size = found["set_size"]
    lines = [
        f"ResNet-{about['depth']}, {found['blocks']} blocks one by one, {about['images']} images "
        f"without labels, {how}, {about.get('test', 10_000):,} test images:\n",
        "| criterion | Spearman with the distance | Kendall | Spearman with the accuracy lost | "
        f"Kendall | the {size} it ranks first: mean cost of each alone | cost of all together | "
        "distance |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        drop, far = row["singles"]["drop"], row["singles"][DISTANCE]
        alone = f"{100 * row['alone']['drop']:.2f} pp"
        lines.append(
            f"| {row['criterion']} | {_cell(far)} | {far['kendall']:+.2f} | {_cell(drop)} | "
            f"{drop['kendall']:+.2f} | {alone} | {_cost(row['first'])} |"
        )
    return "\n".join(lines) + "\n\n"


def _cell(found: dict[str, float]) -> str:
    return f"{found['spearman']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}]"


def _cost(found: dict[str, float] | None) -> str:
    return " | " if found is None else f"{100 * found['drop']:.2f} pp | {found[DISTANCE]:.3f}"


if __name__ == "__main__":
    main()
