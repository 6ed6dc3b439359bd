"""int8, OpenVINO and the other alternatives after a cut of 40 % of the FLOPs, and what they cost.

    python benchmarks/edge.py run --out FOLDER [--cases digits resnet20 ...] [--tiles PROJECT]
    python benchmarks/edge.py table                        written into docs/edge.md

The product is driven the user's way: a config, the command line, the records of its run folder.
PROJECT is a split that `benchmarks/tiles.py train` wrote, with a network. FOLDER lies outside of
the repository. Repeat the command until it says that it is complete.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cifar import HERE, RESULTS, Record, parser, rewrite
from srinit.latency import pair
from tiles import configured

PATH = RESULTS / "edge.json"
PAGE = HERE.parent / "docs" / "edge.md"
FLOPS = 0.6  # may remain
CASES = ("digits", "resnet20", "resnet56", "tiles")
BATCHES = [1, 64]
ABOUT = {
    "flops": FLOPS,
    "batches": BATCHES,
    "cifar10": "1 epoch on 8,000 images after the cut; 1,000 calibration, 2,000 validation images",
}
ON = {  # what is measured beside the cut
    "plan.flops": FLOPS, "compare.latency_batches": BATCHES, "export.openvino": True,
    "export.int8": True, "alternatives.measure": True, "report.pictures": 0,
}  # fmt: skip


def main() -> None:
    found = parser(__doc__)
    found.add_argument("command", choices=("run", "table"))
    found.add_argument("--out", type=Path, help="for configs and runs")
    found.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    found.add_argument("--tiles", type=Path, help="a split of benchmarks/tiles.py")
    args = found.parse_args()
    run(args) if args.command == "run" else table()


def run(args: argparse.Namespace) -> None:
    """Call srinit for every case that is missing."""
    record = Record(PATH, args, ABOUT)
    for case in args.cases:
        if record.find(case=case):
            continue
        record.check_budget()
        words = [sys.executable, "-m", "srinit", *_words(case, args), "--json", "--device", "cpu"]
        pairs = [x for k, v in ON.items() for x in ("--set", f"{k}={json.dumps(v)}")]
        out = args.out.resolve() / case
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = subprocess.run(
            [*words, "--out", str(out), *pairs], capture_output=True, text=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": str(args.threads)},
        )  # fmt: skip
        if done.returncode not in (0, 3):  # 3: a gate said no
            raise SystemExit(f"{case}: {done.returncode}\n{done.stdout}\n{done.stderr[-3000:]}")
        spent = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        folder = Path(json.loads(done.stdout)["run"])
        record.add(case=case, cpu_seconds=round(spent), **read(folder))
        print(case, "done", flush=True)
    print("complete")


def _words(case: str, args: argparse.Namespace) -> list[str]:
    if case == "digits":
        return ["demo"]
    folder = args.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if case == "tiles":
        body = configured("edge-tiles", "auto", {"flops": FLOPS})
        body["export"] = {}
        path = args.tiles.resolve() / "edge.yaml"
        path.write_text(yaml.safe_dump(body, sort_keys=False))
        return ["run", "-c", str(path)]
    shared = args.shared.resolve()
    places = {
        "model.weights": str(shared / "checkpoints" / f"{case}-cifar10-jpeg.safetensors"),
        "data.source": f"parquet:{shared / 'data' / 'cifar10-jpeg' / 'train.parquet'}",
        "data.test": f"parquet:{shared / 'data' / 'cifar10-jpeg' / 'test.parquet'}",
        "data.limit": {"train": 8000, "calibration": 1000, "validation": 2000, "test": 4000},
        "finetune.epochs": 1, "scan.half_width": 0.05, "baseline.expected_top1": None,
    }  # fmt: skip
    profile = [] if case == "resnet20" else ["--set", f"profile={case}"]
    pairs = [x for k, v in places.items() for x in ("--set", f"{k}={json.dumps(v)}")]
    config = HERE.parent / "examples" / "cifar10" / "srinit.yaml"
    return ["run", "-c", str(config), *profile, *pairs]


def read(folder: Path) -> dict[str, Any]:
    """Return what a run's records say of int8, of alternatives and of the time they took."""
    int8 = json.loads((folder / "export" / "int8.json").read_text())
    other = json.loads((folder / "export" / "alternatives.json").read_text())
    result = json.loads((folder / "result.json").read_text())
    lines = map(json.loads, (folder / "audit.jsonl").read_text().splitlines())
    ends = {each["verb"]: datetime.fromisoformat(each["time"]).timestamp() for each in lines}
    took = {b: round(ends[b] - ends[a], 1) for a, b in itertools.pairwise(ends)}
    cells = [
        {
            **{k: cell[k] for k in ("network", "numbers", "runtime", "size_bytes", "method")},
            "in_float": len(cell["in_float"]),
            "score": _score(cell["comparison"]),
            "ms": {
                str(t["batch_size"]): [round(t[k], 4) for k in ("median_ms", "low_ms")]
                for t in cell["latency"]
            },
        }
        for cell in int8["cells"]
    ]
    return {
        "flops": result["flops"],
        "passed": result["passed"],
        "processor": int8["processor"],
        "instructions": int8["instructions"],
        "runtimes": int8["runtimes"],
        "cells": cells,
        "speedup": speedups(int8["cells"]),
        "chosen": int8["chosen"],
        "file": int8["file"],
        "reason": int8["reason"],
        "seconds": {k: took[k] for k in ("scan", "plan", "int8", "alternatives") if k in took},
        "alternatives": {
            "num_examples": other["num_examples"],
            "limits": other["limits"],
            "pick": other["pick"],
            "front": other["front"],
            "not_tried": other["not_tried"],
            "tried": [
                {
                    **{k: each[k] for k in ("kind", "detail", "numbers", "runtime")},
                    "loss": [each["loss"][k] for k in ("value", "low", "high")],
                    "ms": {
                        str(p["pruned"]["batch_size"]): round(p["pruned"]["median_ms"], 4)
                        for p in each["latency"]
                    },
                    "passed": not each["failed_gates"],
                }
                for each in other["tried"]
            ],
        },
    }


def _score(comparison: dict[str, Any] | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    keys = ("baseline", "pruned", "value", "low", "high", "num_examples")
    return {key: comparison["score"][key] for key in keys}


def speedups(cells: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return int8 alone over pruned int8: times as fast, with interval, by runtime and batch."""
    found: dict[str, dict[str, list[float]]] = {}
    known = {(c["network"], c["numbers"], c["runtime"]): c["latency"] for c in cells}
    for runtime in dict.fromkeys(cell["runtime"] for cell in cells):
        sides = [known.get((network, "int8", runtime)) for network in ("unpruned", "pruned")]
        if None in sides:
            continue
        for one, other in zip(*sides, strict=True):
            times = [np.array(each["samples_ms"]).tolist() for each in (other, one)]
            ratio = pair(*times, batch_size=1, device="cpu").ratio
            found.setdefault(runtime, {})[str(one["batch_size"])] = [
                round(each, 3) for each in (ratio.known, ratio.low, ratio.high)
            ]
    return found


def table() -> None:
    """Write the tables into the page."""
    rewrite(PAGE, "edge", tables(json.loads(PATH.read_text())["entries"]))


def tables(measured: list[dict[str, Any]]) -> str:
    """Return a table a case, and a sentence below it."""
    entries = {each["case"]: each for each in measured}
    lines: list[str] = []
    for case in (case for case in CASES if case in entries):
        entry = entries[case]
        cut = 1 - entry["flops"][1] / entry["flops"][0]
        examples = next(c["score"] for c in entry["cells"] if c["score"])["num_examples"]
        lines += [
            f"**{case}**: {cut:.0%} of the FLOPs cut, {examples:,} test examples.", "",
            "| network | accuracy | loss, points (95 %) | ms, batch 1 | ms, batch 64 | bytes |",
            "|---|---|---|---|---|---|",
            *(_row(cell, entry) for cell in entry["cells"]), "",
            _said(entry), "",
        ]  # fmt: skip
    return "\n".join(lines)


def _row(cell: dict[str, Any], entry: dict[str, Any]) -> str:
    name = f"{cell['network']}, {cell['numbers']}, {cell['runtime']}"
    if cell["method"] == "accuracy-aware":
        name += f" (accuracy-aware, {cell['in_float']} layers in float32)"
    score = cell["score"]
    if score is None:
        first = next(c["score"] for c in entry["cells"] if c["score"])
        accuracy, loss = first["baseline"], ""
    else:
        value, low, high = (100 * score[key] for key in ("value", "low", "high"))
        accuracy, loss = score["pruned"], f"{value:.2f} ({low:+.2f} to {high:+.2f})"
    one, many = ("{:.3g} ({:.3g})".format(*cell["ms"][size]) for size in ("1", "64"))
    return f"| {name} | {accuracy:.2%} | {loss} | {one} | {many} | {cell['size_bytes']:,} |"


def _said(entry: dict[str, Any]) -> str:
    gains = "; ".join(
        f"{runtime}, batch {size}: {value:.2f} times as fast ({low:.2f} to {high:.2f})"
        for runtime, sizes in entry["speedup"].items()
        for size, (value, low, high) in sizes.items()
    )
    exported = (
        f"{entry['file']} is exported" if entry["file"] else f"not exported: {entry['reason']}"
    )
    other, seconds = entry["alternatives"], entry["seconds"]
    taken = other["tried"][other["pick"]["place"]]
    detail = f" {taken['detail']}" if taken["detail"] else ""
    base = seconds["scan"] + seconds["plan"]
    return (
        f"Pruned and int8 against int8 alone: {gains}. int8: {exported}. Alternatives on "
        f"{other['num_examples']:,} validation examples ({', '.join(other['limits'])}): take "
        f"{taken['kind']}{detail}, {taken['numbers']}, {taken['runtime']}; "
        f"{seconds['alternatives']:.0f} s, {seconds['alternatives'] / base:.1f} times scan and "
        f"plan ({base:.0f} s)."
    )


if __name__ == "__main__":
    main()
