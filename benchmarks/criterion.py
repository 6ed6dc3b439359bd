"""The criterion on trial: which score predicts what a block's removal really costs?

    python benchmarks/criterion.py cost  --depth 20     the true cost, block by block, seed by seed
    python benchmarks/criterion.py score --depth 20     every criterion, on calibration images
    python benchmarks/criterion.py table                rank correlations, written as markdown

The true cost of a block: it is removed alone, normalization recalibrated, the network trained for
`--steps` steps, and its accuracy on the 10,000 test images compared, image by image, with that of
the unpruned network after the same treatment with the same batches. Repeat a command until it
says that it is complete: what is measured is kept.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, spearmanr

from cifar import HERE, RESULTS, Lab, Record, packed, parser, rewrite, unpacked
from srinit.criteria import CRITERIA, score_units, scores_of
from srinit.reinit import SCHEMES
from srinit.rng import generator
from srinit.sensitivity import measure_sensitivity
from srinit.stats.paired import mean_interval
from srinit.surgery import remove_units

NINE = (1, 3, 6)  # of every stage of nine blocks
SCAN_EXAMPLES = 2000  # a unit and scheme, a fresh draw every 8 at most
TRIAL_STEPS = 10
BOOTSTRAP = 10_000
ENOUGH = 0.9  # share of the blocks with which a seed counts as measured
Floats = npt.NDArray[np.float64]


def main() -> None:
    found = parser(__doc__)
    found.add_argument("command", choices=sorted(COMMANDS))
    found.add_argument("--steps", type=int, default=60, help="of recovery, at batch 128")
    found.add_argument("--seeds", type=int, default=3)
    found.add_argument("--all", action="store_true", help="every block of a deep network")
    args = found.parse_args()
    COMMANDS[args.command](args)


def record_of(args: argparse.Namespace) -> Record:
    about = {"depth": args.depth, "steps": args.steps, "batch": 128, "arithmetic": "bfloat16"}
    path = RESULTS / f"criterion_resnet{args.depth}_{args.steps}.json"
    return Record(path, args, about)


def scores_record(args: argparse.Namespace) -> Record:
    about = {"depth": args.depth, "scan_examples": SCAN_EXAMPLES, "trial_steps": TRIAL_STEPS}
    return Record(RESULTS / f"criterion_scores_resnet{args.depth}.json", args, about)


def chosen(lab: Lab, args: argparse.Namespace) -> list[str]:
    """Return the blocks on trial: all, or for deep networks some of every stage."""
    names = lab.blocks()
    if args.all or len(names) <= 9:
        return names
    return [name for name in names if int(name.rpartition(".")[2]) in NINE]


def cost(args: argparse.Namespace) -> None:
    """Measure what is missing, the unpruned network first, seed by seed."""
    lab, record = Lab(args), record_of(args)
    for seed in range(args.seeds):
        for name in ["", *chosen(lab, args)]:
            if record.find(kind="cost", block=name, seed=seed):
                continue
            record.check_budget()
            began = time.process_time()
            model = copy.deepcopy(lab.model)
            if name:
                model = remove_units(model, [lab.units[name]], example_inputs=lab.inputs)
            lab.recalibrated_(model)
            lab.recover_(model, steps=args.steps, seed=seed)
            correct = lab.correct(model, lab.test)
            record.add(
                kind="cost",
                block=name,
                seed=seed,
                accuracy=float(correct.mean()),
                correct=packed(correct),
                cpu_seconds=round(time.process_time() - began, 1),
            )
            print(f"seed {seed} {name or 'unpruned'}: {correct.mean():.4f}", flush=True)
    print("complete")


def score(args: argparse.Namespace) -> None:
    """Ask every criterion about every block, on calibration images alone."""
    lab, record = Lab(args), scores_record(args)
    asked: dict[str, Callable[[], dict[str, Any]]] = {
        **{name: lambda n=name: _asked(lab, n) for name in CRITERIA if name != "random"},
        **{f"reinit_drop, {scheme}": lambda s=scheme: _reinit(lab, s) for scheme in SCHEMES},
        "removed and recalibrated": lambda: _trial(lab, args, 0),
        f"removed, {TRIAL_STEPS} steps": lambda: _trial(lab, args, TRIAL_STEPS),
    }
    for name, ask in asked.items():
        if record.find(kind="score", criterion=name):
            continue
        record.check_budget()
        began = time.process_time()
        scores = ask()
        spent = round(time.process_time() - began, 1)
        record.add(kind="score", criterion=name, scores=scores, cpu_seconds=spent)
        print(f"{name}: {spent} s", flush=True)
    print("complete")


def _reinit(lab: Lab, scheme: str) -> dict[str, Any]:
    found = measure_sensitivity(
        lab.model, lab.units, lab.placed(lab.calibration), scheme=scheme, half_width=None,
        max_examples=SCAN_EXAMPLES,
    )  # fmt: skip
    return {unit.unit: unit.score for unit in scores_of(found).units}


def _asked(lab: Lab, criterion: str) -> dict[str, Any]:
    found = score_units(
        lab.model, lab.units, lab.placed(lab.calibration), criterion=criterion, batch_size=128
    )
    return {unit.unit: unit.score for unit in found.units}


def _trial(lab: Lab, args: argparse.Namespace, steps: int) -> dict[str, Any]:
    """Return the drop on calibration images after removal, recalibration and some steps."""
    accuracy = {}
    for name in ["", *chosen(lab, args)]:
        model = copy.deepcopy(lab.model)
        if name:
            model = remove_units(model, [lab.units[name]], example_inputs=lab.inputs)
        lab.recalibrated_(model)
        lab.recover_(model, steps=steps, seed=1000)
        accuracy[name] = float(lab.correct(model, lab.calibration).mean())
    return {name: accuracy[""] - value for name, value in accuracy.items() if name}


def costs(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return by block the cost of each seed, their mean, and its paired interval over images."""
    base = {e["seed"]: unpacked(e["correct"]) for e in entries if e["block"] == ""}
    blocks: dict[int, set[str]] = {seed: set() for seed in base}
    for entry in entries:
        if entry["block"]:
            blocks[entry["seed"]].add(entry["block"])
    most = max(map(len, blocks.values()))
    # A seed that is still being measured shows some blocks only, and is left out.
    seeds = [seed for seed, some in blocks.items() if len(some) >= ENOUGH * most]
    names = set.intersection(*(blocks[seed] for seed in seeds))
    lost: dict[str, list[Floats]] = {name: [] for name in names}
    for entry in entries:
        if entry["block"] in names and entry["seed"] in seeds:
            difference = base[entry["seed"]].astype(float) - unpacked(entry["correct"])
            lost[entry["block"]].append(difference)
    return {
        name: {
            "seeds": [float(each.mean()) for each in rows],
            "mean": float(np.mean(rows)),
            "interval": mean_interval(np.mean(rows, axis=0), 0.95),
        }
        for name, rows in sorted(lost.items())
    }


def correlation(scores: Floats, truth: Floats) -> tuple[float, float, float]:
    """Return Spearman's correlation with its bootstrap 95 % interval over blocks."""
    picks = np.random.default_rng(0).integers(0, len(truth), (BOOTSTRAP, len(truth)))
    one, other = rankdata(scores[picks], axis=1), rankdata(truth[picks], axis=1)
    one, other = one - one.mean(1, keepdims=True), other - other.mean(1, keepdims=True)
    size = np.sqrt((one**2).sum(1) * (other**2).sum(1))
    drawn = (one * other).sum(1)[size > 0] / size[size > 0]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(spearmanr(scores, truth).statistic), float(low), float(high)


def summary(entries: list[dict[str, Any]], scored: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the rank correlations and what the first third of each ranking costs."""
    found = costs(entries)
    names = list(found)
    truth = np.array([found[name]["mean"] for name in names])
    third = max(1, round(len(names) / 3))
    rows = []
    for entry in scored:
        if any(entry["scores"].get(name) is None for name in names):
            continue
        scores = np.array([entry["scores"][name] for name in names])
        rho, low, high = correlation(scores, truth)
        first = np.argsort(scores, kind="stable")[:third]
        rows.append(
            {
                "criterion": entry["criterion"],
                "spearman": rho,
                "low": low,
                "high": high,
                "cost_of_first_third": float(truth[first].mean()),
                "cpu_seconds": entry["cpu_seconds"],
            }
        )
    seeds = np.array([found[name]["seeds"] for name in names])
    pairs = [(i, j) for i in range(seeds.shape[1]) for j in range(i)]
    between = [float(spearmanr(seeds[:, i], seeds[:, j]).statistic) for i, j in pairs]
    chance = _chance(len(names))
    return {
        "blocks": len(names),
        "seeds": seeds.shape[1],
        "costs": found,
        "rows": sorted(rows, key=lambda row: -row["spearman"]),
        "between_seeds": float(np.mean(between)) if between else None,
        "random": {"low": -chance, "high": chance, "cost_of_first_third": float(truth.mean())},
        "best_possible_first_third": float(np.sort(truth)[:third].mean()),
    }


def _chance(count: int) -> float:
    """Return what a random ranking of so many blocks stays below in 97.5 % of all cases."""
    order = generator("chance").initial_seed()
    rng = np.random.default_rng(order)
    fixed = np.arange(count)
    return float(
        np.quantile(
            [spearmanr(rng.permutation(count), fixed).statistic for _ in range(4000)], 0.975
        )
    )


def tables() -> tuple[str, dict[str, Any]]:
    """Return the tables of every network measured, as markdown and as records."""
    text, found = "", {}
    for path in sorted(RESULTS.glob("criterion_resnet*_*.json")):
        body = json.loads(path.read_text())
        about = body["about"]
        scored = RESULTS / f"criterion_scores_resnet{about['depth']}.json"
        found[path.stem] = summary(body["entries"], json.loads(scored.read_text())["entries"])
        text += _rendered(about, found[path.stem])
    return text, found


def table(args: argparse.Namespace) -> None:
    """Write the rank correlations of every network measured, as JSON and markdown."""
    text, found = tables()
    (RESULTS / "criterion_summary.json").write_text(json.dumps(found, indent=1) + "\n")
    rewrite(HERE.parent / "docs" / "criteria.md", "criterion", text)
    print(text)


def _agreement(found: dict[str, Any]) -> str:
    if found["between_seeds"] is None:
        return "one seed"
    return f"{found['seeds']} seeds (rank correlation between them {found['between_seeds']:.2f})"


def _rendered(about: dict[str, Any], found: dict[str, Any]) -> str:
    low, high = found["random"]["low"], found["random"]["high"]
    lines = [
        f"ResNet-{about['depth']}, {found['blocks']} blocks, {about['steps']} steps of recovery, "
        f"{_agreement(found)}:\n",
        "| criterion | rank correlation with the true cost | cost of the third it ranks first |",
        "|---|---|---|",
    ]
    lines += [
        f"| {row['criterion']} | {row['spearman']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}] | "
        f"{100 * row['cost_of_first_third']:.2f} pp |"
        for row in found["rows"]
    ]
    lines += [
        f"| random | 0 (95 % of random rankings: {low:+.2f} to {high:+.2f}) | "
        f"{100 * found['random']['cost_of_first_third']:.2f} pp |",
        f"| best possible | +1 | {100 * found['best_possible_first_third']:.2f} pp |",
    ]
    return "\n".join(lines) + "\n\n"


COMMANDS = {"cost": cost, "score": score, "table": table}

if __name__ == "__main__":
    main()
