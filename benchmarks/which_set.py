"""Is a ranking enough, given compensation? Which blocks of a CIFAR ResNet go, by five ways.

    python benchmarks/which_set.py run --depth 56 --blocks 15 20
    python benchmarks/which_set.py run --depth 56 --time 0.4 0.55       that share of the time goes
    python benchmarks/which_set.py run --network vit --weights FILE --blocks 4 6
    python benchmarks/which_set.py table

The cost of a set is how far the answers are from the unpruned network's (total variation) on 256
calibration images after the set is cut and realigned on 32 others. Ways: `block_influence` and
`trial` (each block's own cost) rank; `pairs` minimizes the sum of own costs and of what pairs cost
beyond theirs, exactly (`scipy.optimize.milp`); `contiguous` is the run of consecutive blocks with
the least cost (Gromov et al., https://arxiv.org/abs/2403.17887, by cost in place of the angle);
`ours` is the order of field.py. With `--time` a set is to take a share of the time of all blocks
(least of many calls of each, one thread, batch 1): `trial` takes blocks until it does, `per_ms`
those with the least cost per millisecond, `exact` the set with the least sum of own costs, `pairs`
as above. The sublayers of a vision transformer (`networks.py`) are its units. Every set is then cut
and compensated on 256 calibration images and measured on the 10,000 test images. What is in
results/which_set.json is not measured again; sets without `rule`, and all costs on ResNets, were
measured when the penalty of a realignment did not depend on the number of examples.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

from cifar import HERE, RESULTS, Lab, Record, parser, rewrite
from compensation import LABELS, Other
from srinit.compensation import compensated
from srinit.compensation.answers import answers, divergence
from srinit.compensation.variants import fit_variants
from srinit.criteria import score_units
from srinit.surgery import remove_with_origins
from srinit.units import find_units

PATH = RESULTS / "which_set.json"
PAGE = HERE.parent / "docs" / "compensation.md"
FITTED, JUDGED, FINAL = 32, 256, 256  # calibration images
WAYS = ("block_influence", "ours", "trial", "pairs", "contiguous")
TIMED = ("trial", "per_ms", "exact", "pairs")
CALLS = 200
RULE = "2 / examples"  # the penalty


class Sublayers(Other):
    """A transformer whose units are attention and MLP sublayers."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args)
        self.units = find_units(self.model, self.inputs, level="sublayer")


class Costs:
    """Costs of sets after realignment, each measured once.

    Args:
        lab: The network and its data.
        record: Where costs are kept.
    """

    def __init__(self, lab: Lab, record: Record, network: dict[str, Any]) -> None:
        self.lab, self.record, self.network = lab, record, network
        few = [x for x, _ in lab.few(FITTED + JUDGED).batches(FITTED)]
        self.fit, self.judge = few[:1], few[1:]
        self.theirs = answers(lab.model, self.judge)

    def of(self, names: Sequence[str]) -> float:
        """Return the mean total variation distance without some blocks."""
        key = {**self.network, "method": "cost", "removed": sorted(names)}
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
        path = RESULTS / f"field_orders_resnet{lab.args.depth}.json"
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
    return solved(alone, pairs, dict.fromkeys(blocks, 1.0), (count, count))


def timed(way: str, share: float, costs: Costs, ms: dict[str, float]) -> list[str]:
    """Return blocks that take a share of the time of all, by one way."""
    alone = {name: costs.of([name]) for name in ms}
    wanted = share * sum(ms.values())
    most = wanted + max(ms.values())
    if way in ("exact", "pairs"):
        several = itertools.combinations(ms, 2) if way == "pairs" else ()
        return solved(alone, {pair: costs.of(pair) for pair in several}, ms, (wanted, most))
    found: list[str] = []
    per = {name: alone[name] / (ms[name] if way == "per_ms" else 1.0) for name in ms}
    for name in sorted(ms, key=lambda name: per[name]):
        if sum(ms[each] for each in found) < wanted:
            found.append(name)
    return found


def milliseconds(lab: Lab) -> dict[str, float]:
    """Return the least time of many calls of each block, the blocks in turn."""
    inputs: dict[str, Tensor] = {}
    modules = {name: lab.model.get_submodule(name) for name in lab.blocks()}
    handles = [
        module.register_forward_pre_hook(lambda _, args, n=name: inputs.update({n: args[0]}))
        for name, module in modules.items()
    ]
    found = dict.fromkeys(modules, np.inf)
    with torch.inference_mode():
        lab.model(lab.inputs[:1])
        for handle in handles:
            handle.remove()
        for _ in range(CALLS):
            for name, module in modules.items():
                began = time.perf_counter()
                module(inputs[name])
                found[name] = min(found[name], 1000 * (time.perf_counter() - began))
    return {name: round(value, 4) for name, value in found.items()}


def solved(
    alone: dict[str, float],
    pairs: dict[tuple[str, str], float],
    weights: dict[str, float],
    bounds: tuple[float, float],
) -> list[str]:
    """Return the set with the least sum of own and pairwise costs, exactly.

    Args:
        alone: Cost of each block.
        pairs: Cost of two together; what is beyond the sum of theirs counts.
        weights: What the sum over the set is bounded of.
        bounds: Of that sum.
    """
    blocks = list(alone)
    beyond = np.array([pairs[one, two] - alone[one] - alone[two] for one, two in pairs])
    size, number = len(blocks), len(pairs)
    place = {name: index for index, name in enumerate(blocks)}
    rows = [np.r_[[weights[name] for name in blocks], np.zeros(number)]]
    lows, highs = [float(bounds[0])], [float(bounds[1])]
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
    network = {"depth": args.depth} if args.network is None else {"network": args.network}
    costs = Costs(lab, record, network)
    for count, way in itertools.product(args.blocks, args.ways):
        about = {**network, "method": "set", "blocks": count, "way": way}
        measure(lab, record, about, lambda c=count, w=way: chosen(w, c, lab, costs))
    if args.time and record.find(**network, method="time") is None:
        record.add(**network, method="time", milliseconds=milliseconds(lab))
    for share, way in itertools.product(args.time, TIMED):
        ms = record.find(**network, method="time")["milliseconds"]  # type: ignore[index]
        about = {**network, "method": "set", "time": share, "way": way}
        measure(lab, record, about, lambda s=share, w=way, ms=ms: timed(w, s, costs, ms))


def measure(
    lab: Lab, record: Record, about: dict[str, Any], choose: Callable[[], list[str]]
) -> None:
    """Choose a set, compensate the network without it and record its accuracy."""
    if record.find(**about) is not None:
        return
    record.check_budget()
    began = time.process_time()
    names = choose()
    seconds = time.process_time() - began
    network = {key: about[key] for key in ("depth", "network") if key in about}
    same = [e for e in record.all(**network, method="set", rule=RULE)
            if set(e["removed"]) == set(names)]  # fmt: skip
    known = same[0] if same else None
    if known is None:
        gone = [lab.units[name] for name in names]
        cut, origins = remove_with_origins(lab.model, gone, example_inputs=lab.inputs)
        batches = [x for x, _ in lab.few(FINAL).batches(64)]
        found = compensated(lab.model, cut, origins, batches)
        accuracy = float(lab.correct(found.model, lab.test).mean())
        known = {"accuracy": accuracy, "chosen": found.chosen}
    record.add(
        **about, removed=names, accuracy=known["accuracy"], chosen=known["chosen"], rule=RULE,
        choosing_cpu_seconds=round(seconds, 1),
    )  # fmt: skip
    print(about, f"{known['accuracy']:.4f} {seconds:.0f} s", flush=True)


def table(path: Path) -> str:
    """Return accuracy by way, and number of blocks or share of the time."""
    entries = [e for e in json.loads(path.read_text())["entries"] if e["method"] == "set"]
    text = ""
    for unit, ways in (("blocks", WAYS), ("time", TIMED)):
        rows = [e for e in entries if unit in e]
        if not rows:
            continue
        what = "units out" if unit == "blocks" else "share of the blocks' time out (units)"
        lines = [
            f"| network | {what} | " + " | ".join(ways) + " |",
            "|---|---|" + "---|" * len(ways),
        ]
        for name, goal in sorted({(_label(e), e[unit]) for e in rows}):
            own = [e for e in rows if (_label(e), e[unit]) == (name, goal)]
            cells = [_cell(next((e for e in own if e["way"] == way), None), unit) for way in ways]
            lines.append(f"| {name} | {goal} | " + " | ".join(cells) + " |")
        text += "\n".join(lines) + "\n\n"
    return text.strip()


def _label(entry: dict[str, Any]) -> str:
    return LABELS[entry["network"]] if "network" in entry else f"ResNet-{entry['depth']}"


def _cell(entry: dict[str, Any] | None, unit: str) -> str:
    if entry is None:
        return ""
    count = f" ({len(entry['removed'])})" if unit == "time" else ""
    return f"{100 * entry['accuracy']:.1f}{count}" + ("" if "rule" in entry else "\\*")


if __name__ == "__main__":
    given = parser(__doc__)
    given.add_argument("task", choices=["run", "table"])
    given.add_argument("--blocks", type=int, nargs="*", default=[])
    given.add_argument("--time", type=float, nargs="*", default=[])
    given.add_argument("--network", choices=["vit"])
    given.add_argument("--weights", type=Path, help="of --network, as networks.py writes them")
    given.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    arguments = given.parse_args()
    if arguments.task == "run":
        torch.set_num_threads(arguments.threads)
        run((Lab if arguments.network is None else Sublayers)(arguments), arguments)
    text = table(PATH)
    rewrite(PAGE, "which set", text)
    print(text)
