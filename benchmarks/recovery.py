"""What brings accuracy back after a cut? Every way of recovery at the same number of steps.

    python benchmarks/recovery.py run --steps 60      each way, after two cuts, seed by seed
    python benchmarks/recovery.py staged              one cut against several, the same steps in all
    python benchmarks/recovery.py table               the tables, written as markdown

ResNet-20 on CIFAR-10 loses three or five blocks, always the same. Steps are those of `fine_tune`
at batch 64, with crop and flip; the last weights are measured, on the first `--test` test images.
The same seed gives every way the same images in the same order. Repeat a command until it says
that it is complete: what is measured is kept.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats
from torch import nn

from cifar import HERE, RESULTS, Lab, Record, packed, parser, rewrite
from srinit.finetune import Recipe, fine_tune
from srinit.sources import Augment
from srinit.surgery import expand_back, kept_names, remove_units

CUTS = {
    3: ("layer1.0", "layer2.1", "layer2.2"),
    5: ("layer1.0", "layer1.1", "layer2.1", "layer2.2", "layer3.1"),
}
BATCH = 64
PLAIN: dict[str, Any] = {"distill_weight": 0.0}
LOGITS: dict[str, Any] = {"distill_weight": 0.5}
FEATURES: dict[str, Any] = {"feature_weight": 1.0}
REWIND: dict[str, Any] = {"schedule": "rewind"}
EMA: dict[str, Any] = {"ema": 0.95}
WAYS: dict[str, dict[str, Any]] = {
    "small rate": {**PLAIN},
    "rewind": {**PLAIN, **REWIND},
    "small rate, EMA": {**PLAIN, **EMA},
    "small rate, logits": {**LOGITS},
    "small rate, features": {**PLAIN, **FEATURES},
    "small rate, logits, features": {**LOGITS, **FEATURES},
    "small rate, logits, features, EMA": {**LOGITS, **FEATURES, **EMA},
    "rewind, logits, features": {**LOGITS, **FEATURES, **REWIND},
}
DEFAULT = "small rate, logits"
UNTRAINED = ("nothing", "recalibration")
STAGED_BLOCKS, STAGED_STEPS = 4, 120
ROUNDS = (1, 2, 4)


def main() -> None:
    found = parser(__doc__)
    found.add_argument("command", choices=sorted(COMMANDS))
    found.add_argument("--steps", type=int, default=60, help="of recovery")
    found.add_argument("--seeds", type=int, default=3)
    found.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    found.add_argument("--cuts", nargs="+", type=int, default=list(CUTS), choices=list(CUTS))
    found.add_argument("--test", type=int, default=5000, help="test images")
    args = found.parse_args()
    COMMANDS[args.command](args)


def record_of(args: argparse.Namespace, name: str, steps: int) -> Record:
    about = {
        "depth": args.depth, "steps": steps, "batch": BATCH, "test": args.test,
        "arithmetic": "bfloat16",
    }  # fmt: skip
    return Record(RESULTS / f"recovery_{name}_{steps}.json", args, about)


def prepared(args: argparse.Namespace) -> Lab:
    lab = Lab(args)
    lab.test = lab.test.subset(range(args.test))
    return lab


# every way


def run(args: argparse.Namespace) -> None:
    lab, record = prepared(args), record_of(args, f"resnet{args.depth}", args.steps)
    for way in ("unpruned", *UNTRAINED):
        for cut in (0,) if way == "unpruned" else CUTS:
            if record.find(way=way, cut=cut) is None:
                record.check_budget()
                _untrained(lab, record, way, cut)
    for seed in range(args.seeds):
        for cut in sorted(args.cuts, reverse=True):
            for way in args.ways:
                if record.find(way=way, cut=cut, seed=seed) is None:
                    record.check_budget()
                    _trained(lab, record, way, WAYS[way], cut, seed)
    print("complete")


def _untrained(lab: Lab, record: Record, way: str, cut: int) -> None:
    model = without(lab, lab.model, CUTS.get(cut, ()))
    if way == "recalibration":
        lab.recalibrated_(model)
    _add(lab, record, model, way=way, cut=cut, seed=None, cpu_seconds=0.0)


def _trained(
    lab: Lab, record: Record, way: str, settings: dict[str, Any], cut: int, seed: int
) -> None:
    began = time.process_time()
    model = without(lab, lab.model, CUTS[cut])
    lab.recalibrated_(model)
    recover_(lab, model, CUTS[cut], settings, steps=lab.args.steps, seed=seed)
    spent = round(time.process_time() - began, 1)
    _add(lab, record, model, way=way, cut=cut, seed=seed, cpu_seconds=spent)


def _add(lab: Lab, record: Record, model: nn.Module, **about: Any) -> None:
    correct = lab.correct(model, lab.test)
    record.add(**about, accuracy=float(correct.mean()), correct=packed(correct))
    print(*about.values(), f"{correct.mean():.4f}", flush=True)


def without(lab: Lab, model: nn.Module, blocks: Sequence[str]) -> nn.Module:
    """Return a copy of an unpruned network without some blocks."""
    if not blocks:
        return copy.deepcopy(model)
    return remove_units(model, [lab.units[name] for name in blocks], example_inputs=lab.inputs)


def recover_(
    lab: Lab, model: nn.Module, blocks: Sequence[str], settings: dict[str, Any], *,
    steps: int, seed: int,
) -> None:  # fmt: skip
    """Train in place by the product's own loop."""
    per_epoch = len(lab.train.batches(BATCH))
    recipe = Recipe(
        epochs=(steps - 0.5) / per_epoch, batch_size=BATCH, precision="bfloat16", **settings
    )
    fine_tune(
        model, lab.train, None, teacher=lab.model, recipe=recipe, seed=seed,
        features=cut_points(lab, blocks), augment=Augment(crop_padding=4, flip=True),
    )  # fmt: skip
    model.eval()


def cut_points(lab: Lab, blocks: Sequence[str]) -> dict[str, str]:
    """Return the block that follows every cut: its name in the pruned and the unpruned network."""
    order = lab.blocks()
    after = {
        next((name for name in order[order.index(block) :] if name not in blocks), "")
        for block in blocks
    }
    gone = [lab.units[name] for name in blocks]
    kept = kept_names(lab.model, gone, example_inputs=lab.inputs)
    return {new: old for new, old in kept.items() if old in after}


# one cut against several


def staged(args: argparse.Namespace) -> None:
    """Remove the same number of blocks in one, two and four rounds; the steps are shared out."""
    lab, record = prepared(args), record_of(args, "staged", STAGED_STEPS)
    for seed in range(args.seeds):
        for rounds in ROUNDS:
            if record.find(stages=rounds, seed=seed) is None:
                record.check_budget()
                _in_rounds(lab, record, rounds, seed)
    print("complete")


def _in_rounds(lab: Lab, record: Record, rounds: int, seed: int) -> None:
    from field import _influence, may_go

    began = time.process_time()
    gone: list[str] = []
    model = copy.deepcopy(lab.model)
    for number in range(rounds):
        whole = lab.model
        if gone:
            units = [lab.units[name] for name in gone]
            whole, _ = expand_back(lab.model, model, units, example_inputs=lab.inputs)
        ranking = _influence(lab, model, gone)  # ranked anew on the network as it is
        for _ in range(STAGED_BLOCKS // rounds):
            gone.append(next(n for n in ranking if n not in gone and may_go(gone, lab.blocks(), n)))
        model = without(lab, whole, gone)
        lab.recalibrated_(model)
        recover_(lab, model, gone, LOGITS, steps=STAGED_STEPS // rounds, seed=10 * seed + number)
    spent = round(time.process_time() - began, 1)
    _add(lab, record, model, stages=rounds, seed=seed, blocks=gone, cpu_seconds=spent)


# the tables


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean, and how far Student's 95 % interval over seeds reaches."""
    found = np.array(values)
    if len(found) < 2:
        return float(found.mean()), None
    error = found.std(ddof=1) / np.sqrt(len(found))
    return float(found.mean()), float(stats.t.ppf(0.975, len(found) - 1) * error)


def _cell(values: Sequence[float], sign: str = "") -> str:
    if not values:
        return "-"
    mean, reach = interval(values)
    return f"{100 * mean:{sign}.1f}" + ("" if reach is None else f" ± {100 * reach:.1f}")


def tables() -> tuple[str, dict[str, Any]]:
    """Return the table of ways as markdown, and the entries of every number of steps."""
    bodies = [
        json.loads(path.read_text()) for path in sorted(RESULTS.glob("recovery_resnet*_*.json"))
    ]
    bodies.sort(key=lambda body: body["about"]["steps"])
    heads = [(b, cut) for b in bodies for cut in CUTS]
    about = bodies[0]["about"]
    base = next(e for e in bodies[0]["entries"] if e["way"] == "unpruned")
    lines = [
        f"ResNet-{about['depth']} on CIFAR-10, unpruned {100 * base['accuracy']:.1f} %; batch "
        f"{about['batch']}, {about['test']} test images; top-1 in % ± 95 % interval over seeds:\n",
        "| recovery | "
        + " | ".join(f"{cut} blocks, {b['about']['steps']} steps" for b, cut in heads)
        + " |",
        "|---" * (len(heads) + 1) + "|",
    ]
    for way in (*UNTRAINED, *WAYS):
        cells = [_cell(list(_by_seed(b, way, cut).values())) for b, cut in heads]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    lines += [
        f'\nDifference to "{DEFAULT}" (the default of the product) in points, seed by seed:\n',
        *lines[1:3],
    ]
    for way in WAYS:
        if way != DEFAULT:
            cells = [_cell(_paired(b, way, cut), sign="+") for b, cut in heads]
            lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines), {str(b["about"]["steps"]): b["entries"] for b in bodies}


def _by_seed(body: dict[str, Any], way: str, cut: int) -> dict[int | None, float]:
    some = (e for e in body["entries"] if e["way"] == way and e["cut"] == cut)
    return {e["seed"]: e["accuracy"] for e in some}


def _paired(body: dict[str, Any], way: str, cut: int) -> list[float]:
    found, reference = _by_seed(body, way, cut), _by_seed(body, DEFAULT, cut)
    return [found[seed] - reference[seed] for seed in found if seed in reference]


def staged_table() -> str:
    """Return the table of rounds as markdown."""
    body = json.loads((RESULTS / f"recovery_staged_{STAGED_STEPS}.json").read_text())
    lines = ["| rounds | steps a round | top-1, 95 % interval | seeds |", "|---|---|---|---|"]
    for rounds in ROUNDS:
        values = [e["accuracy"] for e in body["entries"] if e["stages"] == rounds]
        if values:
            lines.append(
                f"| {rounds} | {STAGED_STEPS // rounds} | {_cell(values)} % | {len(values)} |"
            )
    return "\n".join(lines)


def table(args: argparse.Namespace) -> None:
    """Write both tables into the pages."""
    docs = HERE.parent / "docs"
    rewrite(docs / "finetune.md", "recovery", tables()[0])
    print(tables()[0])
    if (RESULTS / f"recovery_staged_{STAGED_STEPS}.json").is_file():
        rewrite(docs / "rounds.md", "staged", staged_table())
        print(staged_table())


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "run": run, "staged": staged, "table": table,
}  # fmt: skip

if __name__ == "__main__":
    main()
