"""Ours against the field: which blocks, at equal block count and equal recovery budget.

    python benchmarks/field.py order   --depth 20    each method's order of removal
    python benchmarks/field.py run     --depth 20    accuracy after removal and recovery
    python benchmarks/field.py latency --depth 56    speed-up against FLOPs; Torch-Pruning's widths
    python benchmarks/field.py table                 written as JSON and markdown

Blocks are chosen on calibration images, the weights that are kept on validation images; test
images are read once, for the number in the table. The order of removal is the same for all seeds
but for `random` and `staged`; seeds differ in the batches of the recovery. All methods keep at
least one block of every stage. `ours` cuts at once, `staged` in three rounds that share the same
number of training steps, ranking again after each. `ours_params` removes the share of parameters
that the published set removes, at the least loss. Repeat a command until it says that it is
complete: what is measured is kept. With full budgets, on a GPU:
`--device cuda --depth 56 --steps 39000 --seeds 5 --validation 5000`.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cifar import BATCH, RECALIBRATION, RESULTS, Lab, Record, packed, parser
from field_table import table
from srinit.cost import count_cost
from srinit.criteria import score_units
from srinit.export import export_onnx, measure_file_pair
from srinit.latency import LatencyPair, measure_latency_pair
from srinit.surgery import expand_back, remove_units

POINTS = {20: (2, 3, 4), 56: (10, 15, 20)}  # blocks removed
PUBLISHED = (1, 8, 17, 19, 21, 22, 23, 24, 25, 26)  # of 27, ResNet-56, 10 classes
CANDIDATES = 3  # that a trial compares at each cut
ROUNDS = 3  # of `staged`
STEPS_BEFORE = 0.2  # share of the steps in each round but the last
LATER_IMAGES = 1500  # of calibration, for a trial in a later round
PARAMS = 545_792 / 853_018  # share of the parameters that PUBLISHED removes
ORDERED = (
    "ours",
    "ours_params",
    "block_influence",
    "removal_drop",
    "reinit_drop",
    "output_cka",
    "last",
)
METHODS = ("staged", *ORDERED, "random", "published", "scratch", "torch-pruning")
LATENCY_BATCHES = (1, 64)


def main() -> None:
    found = parser(__doc__)
    found.add_argument("command", choices=sorted(COMMANDS))
    found.add_argument("--steps", type=int, default=60, help="of recovery, at batch 128")
    found.add_argument("--seeds", type=int, default=3)
    found.add_argument("--validation", type=int, default=2000, help="images that choose weights")
    found.add_argument("--points", nargs="+", type=int, help="blocks removed; several if left out")
    found.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    args = found.parse_args()
    COMMANDS[args.command](args)


def orders_record(args: argparse.Namespace) -> Record:
    path = RESULTS / f"field_orders_resnet{args.depth}.json"
    return Record(path, args, {"depth": args.depth, "candidates": CANDIDATES})


def runs_record(args: argparse.Namespace) -> Record:
    about = {"depth": args.depth, "steps": args.steps, "batch": 128, "arithmetic": "bfloat16"}
    return Record(RESULTS / f"field_resnet{args.depth}_{args.steps}.json", args, about)


# which blocks


def may_go(gone: list[str], names: list[str], name: str) -> bool:
    """Return whether a block may follow those that are gone: each stage keeps one."""
    stage = name.partition(".")[0]
    left = [n for n in names if n.partition(".")[0] == stage and n not in gone]
    return name not in gone and len(left) > 1


def thinned(ranking: list[str], names: list[str]) -> list[str]:
    """Return a ranking without the blocks that would empty a stage."""
    gone: list[str] = []
    for name in ranking:
        if may_go(gone, names, name):
            gone.append(name)
    return gone


def order(args: argparse.Namespace) -> None:
    lab, record = Lab(args), orders_record(args)
    names, most = lab.blocks(), max(POINTS[args.depth])
    for method in args.methods:
        if method not in ORDERED or record.find(method=method):
            continue
        record.check_budget()
        began = time.process_time()
        if method == "ours":
            found, log = tried(lab, most)
        elif method == "ours_params":
            if args.depth != 56:
                continue
            found, log = tried(lab, most, params=PARAMS)
        elif method == "last":
            found, log = thinned(names[::-1], names), []
        else:
            scores = score_units(
                lab.model, lab.units, lab.placed(lab.calibration), criterion=method,
                batch_size=128, max_examples=2000,
            )  # fmt: skip
            found, log = thinned(list(scores.order), names), [scores.criterion]
        spent = round(time.process_time() - began, 1)
        record.add(method=method, order=found[:most], log=log, cpu_seconds=spent)
        print(f"{method}: {' '.join(found[:most])} ({spent} s)", flush=True)
    print("complete")


def tried(
    lab: Lab,
    count: int,
    *,
    params: float = 1.0,
    gone: Sequence[str] = (),
    base: nn.Module | None = None,
    images: int | None = None,
) -> tuple[list[str], list[Any]]:
    """Return an order found cut by cut: block influence proposes three, a trial decides.

    The trial removes a candidate on a copy, recalibrates, and measures on calibration images.
    The scores are those of the network as it is after the cuts before, recalibrated. With `params`
    below 1 candidates are compared by what they cost a parameter, until that share is removed.
    `base` takes the place of the unpruned network, the blocks of `gone` have gone before.
    """
    order: list[str] = list(gone)
    batches = RECALIBRATION if images is None else images // BATCH
    log: list[Any] = []
    while len(order) < count and params_gone(lab, order) < params:
        now = cut(lab, order, base, batches)
        influence = _influence(lab, now, order)
        before = _calibrated(lab, now, images)
        size = {name: lab.units[name].params if params < 1 else 1 for name in influence}
        left = [name for name in influence if may_go(order, lab.blocks(), name)]
        left.sort(key=lambda name: influence[name] / size[name])
        accuracy = {
            name: _calibrated(lab, cut(lab, [*order, name], base, batches), images)
            for name in left[:CANDIDATES]
        }
        order.append(min(accuracy, key=lambda name: (before - accuracy[name]) / size[name]))
        log.append(accuracy)
    return order, log


def params_gone(lab: Lab, blocks: Iterable[str]) -> float:
    """Return the share of the parameters that these blocks hold."""
    whole = sum(parameter.numel() for parameter in lab.model.parameters())
    return sum(lab.units[name].params for name in blocks) / whole


def _calibrated(lab: Lab, model: nn.Module, images: int | None) -> float:
    data = lab.calibration if images is None else lab.few(images)
    return float(lab.correct(model, data).mean())


def _influence(lab: Lab, model: nn.Module, gone: list[str]) -> dict[str, float]:
    """Return the influence of the blocks that are left, by their names in the unpruned network."""
    from srinit.units import find_units

    units = find_units(model, lab.inputs)
    scores = score_units(
        model, units, lab.placed(lab.calibration)[:8], criterion="block_influence", batch_size=128
    )
    # Blocks keep their order; the first of a stage stays a block when its branch is gone.
    left = [name for name in lab.blocks() if name not in gone]
    if len(left) != len(units):
        raise SystemExit(f"{len(units)} units are left where {len(left)} were expected")
    original = dict(zip(units.names, left, strict=True))
    return {original[u.unit]: float(u.score) for u in scores.units if u.score is not None}


def cut(
    lab: Lab, gone: Sequence[str], base: nn.Module | None = None, batches: int = RECALIBRATION
) -> nn.Module:
    """Return the network without some blocks, normalization recalibrated."""
    model = copy.deepcopy(lab.model if base is None else base)
    if gone:
        model = remove_units(model, [lab.units[n] for n in gone], example_inputs=lab.inputs)
    lab.recalibrated_(model, batches)
    return model


def chosen(lab: Lab, orders: Record, method: str, point: int, seed: int) -> tuple[str, ...] | None:
    """Return the blocks a method removes, in order of execution; None where it has no answer."""
    names = lab.blocks()
    if method == "random":
        shuffled = np.random.default_rng([seed, 7]).permutation(names).tolist()
        found = thinned(shuffled, names)[:point]
    elif method == "published":
        if lab.args.depth != 56 or point != len(PUBLISHED):
            return None
        found = [names[index] for index in PUBLISHED]
    elif method == "ours_params":
        entry = orders.find(method=method)
        if entry is None or point != len(PUBLISHED):
            return None
        found = entry["order"]
    else:
        entry = orders.find(method="ours" if method == "scratch" else method)
        if entry is None:
            return None
        found = entry["order"][:point]
    return tuple(sorted(found, key=names.index))


# how well


def run(args: argparse.Namespace) -> None:
    lab, orders, record = Lab(args), orders_record(args), runs_record(args)
    lab.validation = lab.validation.subset(range(args.validation))
    for seed in range(args.seeds):
        for point in args.points or POINTS[args.depth]:
            for method in args.methods:
                if method == "torch-pruning":
                    one_narrowed(lab, record, point, seed)
                    continue
                if method == "staged":
                    one_staged(lab, record, orders, point, seed)
                    continue
                blocks = chosen(lab, orders, method, point, seed)
                if blocks is not None:
                    one(lab, record, method, point, seed, blocks)
    print("complete")


def one(
    lab: Lab, record: Record, method: str, point: int, seed: int, blocks: tuple[str, ...]
) -> None:
    """Measure one network; the same blocks under another method are not measured again."""
    if record.find(method=method, point=point, seed=seed):
        return
    scratch = method == "scratch"
    twin = record.find(blocks=list(blocks), seed=seed, scratch=scratch)
    if twin is not None:
        record.add(**{**twin, "method": method, "point": point, "same_as": twin["method"]})
        return
    record.check_budget()
    began = time.process_time()
    model = cut(lab, list(blocks))
    if scratch:
        fresh = lab.untrained(lab.args.depth, seed)
        model = remove_units(fresh, [lab.units[n] for n in blocks], example_inputs=lab.inputs)
    finish(
        lab, record, model, seed, began,
        about={"method": method, "point": point, "seed": seed, "blocks": list(blocks)},
        scratch=scratch,
    )  # fmt: skip


def one_staged(lab: Lab, record: Record, orders: Record, point: int, seed: int) -> None:
    """Cut in rounds that share the steps of the recovery; the order is found anew in each."""
    first = orders.find(method="ours")
    if first is None or record.find(method="staged", point=point, seed=seed):
        return
    record.check_budget()
    began = time.process_time()
    sizes = [round(point * (number + 1) / ROUNDS) for number in range(ROUNDS)]
    blocks = list(first["order"][: sizes[0]])
    model, log = cut(lab, blocks), []
    for number, size in enumerate(sizes[1:]):
        lab.recover_(
            model, steps=round(STEPS_BEFORE * lab.args.steps), seed=seed + 1000 * (number + 1),
            teacher=lab.model,
        )  # fmt: skip
        gone = [lab.units[name] for name in blocks]
        base, _ = expand_back(lab.model, model, gone, example_inputs=lab.inputs)
        blocks, found = tried(lab, size, gone=blocks, base=base, images=LATER_IMAGES)
        log += found
        model = cut(lab, blocks, base)
    blocks.sort(key=lab.blocks().index)
    left = 1 - STEPS_BEFORE * (ROUNDS - 1)
    about = {"method": "staged", "point": point, "seed": seed, "blocks": blocks, "log": log}
    finish(lab, record, model, seed, began, about=about, share=left)


def finish(
    lab: Lab, record: Record, model: nn.Module, seed: int, began: float, *, about: dict[str, Any],
    scratch: bool = False, share: float = 1.0,
) -> None:  # fmt: skip
    """Recover, measure on test images once, and keep the result."""
    steps = round(share * lab.args.steps)
    tuned = lab.recover_(
        model, steps=steps, seed=seed, lr=0.1 if scratch else 0.02,
        teacher=None if scratch else lab.model, validate_every=max(1, steps // 2),
    )  # fmt: skip
    correct = lab.correct(model, lab.test)
    base, after = count_cost(lab.model, lab.inputs), count_cost(model, lab.inputs)
    record.add(
        **about,
        scratch=scratch,
        **tuned,
        accuracy=float(correct.mean()),
        correct=packed(correct),
        params_removed=1 - after.params / base.params,
        flops_removed=1 - after.flops / base.flops,
        cpu_seconds=round(time.process_time() - began, 1),
    )
    print(about["method"], about["point"], seed, f"{correct.mean():.4f}", flush=True)


# Torch-Pruning


def narrowed(lab: Lab, ratio: float) -> nn.Module:
    """Return the network with that share of the channels inside its blocks removed.

    Only the channels between the two convolutions of a block: the shortcuts without parameters
    (option A) tie the others together in a way that Torch-Pruning does not follow.
    """
    import torch_pruning

    model = copy.deepcopy(lab.model).float().to(memory_format=torch.contiguous_format)
    inner = {
        module
        for name, module in model.named_modules()
        if name.startswith("layer") and name.endswith("conv1")
    }
    kept = [
        module
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and module not in inner
    ]
    pruner = torch_pruning.pruner.MagnitudePruner(
        model,
        lab.inputs,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=ratio,
        max_pruning_ratio=0.95,
        ignored_layers=kept,
    )
    pruner.step()
    return model.to(memory_format=torch.channels_last).eval()


def has_torch_pruning() -> bool:
    if importlib.util.find_spec("torch_pruning") is not None:
        return True
    print("without Torch-Pruning: python3 -m pip install torch-pruning==1.6.1 to compare with it")
    return False


def one_narrowed(lab: Lab, record: Record, point: int, seed: int) -> None:
    if record.find(method="torch-pruning", point=point, seed=seed):
        return
    path = RESULTS / f"field_latency_resnet{lab.args.depth}.json"
    entries = json.loads(path.read_text())["entries"] if path.is_file() else []
    widths = [e["ratio"] for e in entries if e["kind"] == "width" and e["point"] == point]
    if not widths or not has_torch_pruning():
        return
    record.check_budget()
    began = time.process_time()
    model = narrowed(lab, widths[0])
    lab.recalibrated_(model)
    about = {"method": "torch-pruning", "point": point, "seed": seed, "blocks": []}
    finish(lab, record, model, seed, began, about=about)


# how fast


def latency(args: argparse.Namespace) -> None:
    """Measure speed-ups of our networks, and the widths at which Torch-Pruning's are as fast."""
    lab, orders = Lab(args), orders_record(args)
    about: dict[str, Any] = {
        "depth": args.depth,
        "threads": args.threads,
        "batches": list(LATENCY_BATCHES),
    }
    kind = torch.backends.cpu.get_cpu_capability().lower()  # other arithmetic, other latencies
    about["instructions"] = kind
    suffix = "" if kind == "avx512" else f"_{kind}"
    record = Record(RESULTS / f"field_latency_resnet{args.depth}{suffix}.json", args, about)
    base = plain(lab.model)
    for point in POINTS[args.depth]:
        blocks = chosen(lab, orders, "ours", point, 0)
        blocks = blocks or chosen(lab, orders, "block_influence", point, 0)
        if blocks is None:
            raise SystemExit("run `field.py order` first")
        gone = [lab.units[name] for name in blocks]
        small = plain(remove_units(lab.model, gone, example_inputs=lab.inputs))
        if record.find(kind="speed", point=point) is None:
            add_speed(record, point, base, small)
        if record.find(kind="width", point=point) is None and has_torch_pruning():
            add_width(lab, record, point, base, small)
    print("complete")


def plain(model: nn.Module) -> nn.Module:
    """Return a copy in PyTorch's default layout, as users run it."""
    return copy.deepcopy(model).to(memory_format=torch.contiguous_format).eval()


def add_speed(record: Record, point: int, base: nn.Module, small: nn.Module) -> None:
    inputs = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    reduction = count_cost(base, inputs).flops / count_cost(small, inputs).flops
    pairs: list[LatencyPair] = []
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "base.onnx", Path(folder) / "small.onnx"]
        for model, file in zip((base, small), files, strict=True):
            export_onnx(model, inputs[:4], file)
        for size in LATENCY_BATCHES:
            repeats = 200 if size == 1 else 40
            pairs.append(
                measure_latency_pair(base, small, inputs, batch_size=size, repeats=repeats)
            )
            pairs.append(measure_file_pair(*files, inputs, batch_size=size, repeats=repeats))
    for pair in pairs:
        record.add(
            kind="speed",
            point=point,
            runtime=pair.baseline.runtime,
            batch=pair.baseline.batch_size,
            baseline_ms=pair.baseline.median_ms,
            pruned_ms=pair.pruned.median_ms,
            flop_reduction=reduction,
            speed_up=1 / pair.ratio.known,
            kept=1 / pair.ratio.known / reduction,
            kept_interval=[1 / pair.ratio.high / reduction, 1 / pair.ratio.low / reduction],
            repeats=pair.baseline.repeats,
        )
        print(
            point, pair.baseline.runtime, pair.baseline.batch_size, 1 / pair.ratio.known / reduction
        )


def add_width(lab: Lab, record: Record, point: int, base: nn.Module, small: nn.Module) -> None:
    """Find by bisection the share of channels at which the network is as fast as ours."""
    inputs = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    low, high = 0.0, 0.95
    ratio, pair = 0.5, None
    for _ in range(6):
        ratio = (low + high) / 2
        other = plain(narrowed(lab, ratio))
        pair = measure_latency_pair(small, other, inputs, batch_size=64, repeats=15)
        low, high = (ratio, high) if pair.ratio.known > 1 else (low, ratio)
    assert pair is not None
    cost, whole = count_cost(other, inputs), count_cost(base, inputs)
    record.add(
        kind="width",
        point=point,
        ratio=ratio,
        latency_against_ours=pair.ratio.known,
        flops_removed=1 - cost.flops / whole.flops,
    )
    print(point, "channels removed", ratio, "latency against ours", pair.ratio.known)


COMMANDS = {"order": order, "run": run, "latency": latency, "table": table}

if __name__ == "__main__":
    main()
