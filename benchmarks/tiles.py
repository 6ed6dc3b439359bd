"""Magnetic tiles: 40 % of the latency removed, no training after the cut, and what is missed then.

    python benchmarks/tiles.py train --out FOLDER          a network for every split, from scratch
    python benchmarks/tiles.py run --out FOLDER            `srinit run` on each, several configs
    python benchmarks/tiles.py table                       written into docs/tiles.md

A network of a split "session-ABC" is tested on two of the six sessions in which every tile was
photographed, and its tiles were seen in training; that of "tile-0" on tiles that it never saw. The
product is driven the user's way: folders of pictures, a YAML config with `finetune.epochs: 0`, the
command line, the records of its run folder. Calibration pictures have no labels. FOLDER (weights,
pictures, runs) lies outside of the repository. Repeat a command until it says that it is complete.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from scipy.stats import binomtest

import tiles_data
from cifar import RESULTS, Record, packed, parser, rewrite, unpacked
from srinit import load_pruned
from srinit.functions import load_function
from srinit.networks import load_weights, read_weights

PATH = RESULTS / "tiles.json"
PAGE = tiles_data.HERE.parent / "docs" / "tiles.md"
TARGET = 0.53  # of the FLOPs may remain, so that 40 % of the processor time go
MILDER = (0.58,)
CALLS = 60  # of each network, in turn, to time them
SPLITS = {"session-564": 0.4, "session-123": 0.4, "session-345": 0.4, "tile-0": 1.0}
EPOCHS = {"session": 50, "tile": 60}
KINDS = {"session": "sessions put aside, known tiles", "tile": "unknown tiles"}
GATES = {"max_drop": 0.05, "max_missed_defect_increase": 0.05, "max_false_reject_increase": 0.05}
BOOTSTRAP = 4000
WAYS = {
    "nothing after the cut": "none",
    "recalibrated": "recalibrate",
    "compensated": "auto",
}  # what is done after the cut -> compensate.method


def main() -> None:
    found = parser(__doc__)
    found.add_argument("command", choices=sorted(COMMANDS))
    found.add_argument("--out", type=Path, help="for weights, pictures and runs")
    found.add_argument("--splits", nargs="+", default=list(SPLITS))
    args = found.parse_args()
    torch.set_num_threads(args.threads)
    COMMANDS[args.command](args)


def train(args: argparse.Namespace) -> None:
    """Lay out the folders of every split and train its network, where that is not done."""
    record = Record(PATH, args, ABOUT)
    for split in args.splits:
        project = args.out.resolve() / split
        shared = args.shared / "data" / "magnetic-tile"
        if not (project / "weights.json").is_file():  # written last
            counts = tiles_data.prepare(shared / "images", project, split)
            epochs = EPOCHS[split.partition("-")[0]]
            about = tiles_data.train(project, shared, epochs, SPLITS[split])
            (project / "weights.json").write_text(json.dumps({"data": counts, **about}) + "\n")
        if record.find(kind="network", split=split):
            continue
        model = load_function("model.py:tile_net", project)()
        state = read_weights(project / "weights.safetensors")
        load_weights(model, state, where="weights.safetensors")
        names = tiles_data.pictures(project / "test")[2]
        record.add(
            kind="network",
            split=split,
            **json.loads((project / "weights.json").read_text()),
            **answered(model, project),
            tiles=tiles_data.tile_numbers(shared / "images", names),
        )
        print(split, said(record.body["entries"][-1]), flush=True)
    print("complete")


def run(args: argparse.Namespace) -> None:
    """Call `srinit run` for every split and config that is missing."""
    record = Record(PATH, args, ABOUT)
    for split in args.splits:
        project = args.out.resolve() / split
        _called(record, args, project, split, "compensated", TARGET, {"flops": TARGET})
        first = record.find(kind="run", split=split, way="compensated", target=TARGET)
        assert first is not None
        for way in ("recalibrated", "nothing after the cut"):
            # The same units: a second measurement of latency might end at others.
            _called(record, args, project, split, way, TARGET, {"remove": first["removed"]})
        for target in MILDER:
            _called(record, args, project, split, "compensated", target, {"flops": target})
    print("complete")


def _called(
    record: Record, args: argparse.Namespace, project: Path, split: str, way: str, target: float,
    plan: dict[str, Any],
) -> None:  # fmt: skip
    key = {"kind": "run", "split": split, "way": way, "target": target}
    if record.find(**key):
        return
    record.check_budget()
    name = f"{way.split()[0]}-{round(100 * target)}"
    config = project / f"{name}.yaml"
    config.write_text(yaml.safe_dump(configured(name, WAYS[way], plan), sort_keys=False))
    began = time.monotonic()
    command = [sys.executable, "-m", "srinit", "run", "-c", str(config), "--json"]
    command += ["--out", str(project / "runs")]
    threads = str(args.threads)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": threads},
    )  # fmt: skip
    (project / f"{name}.log").write_text(done.stderr)
    if done.returncode not in (0, 3):  # 3: a gate said no
        raise SystemExit(f"srinit run ended with {done.returncode}:\n{done.stderr[-3000:]}")
    folder = Path(json.loads(done.stdout)["run"])
    record.add(**key, **read(folder, project), wall_seconds=round(time.monotonic() - began))
    print(key, said(record.body["entries"][-1]), flush=True)


def configured(name: str, method: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a run; where the blocks are given nothing is spent on choosing them."""
    given = "remove" in plan
    few = {"trial_examples": 0, "beside": []} if given else {}
    return {
        "name": name,
        "model": {"source": "py:model.py:tile_net", "weights": "weights.safetensors"},
        "data": {
            "calibration": "images:calibration",
            "test": "folder:test",
            "classes": tiles_data.CLASSES,
            "defect_class": [each for each in tiles_data.CLASSES if each != tiles_data.GOOD],
            "preprocess": {
                "size": [tiles_data.SIZE, tiles_data.SIZE],
                "channels": 1,
                "mean": [tiles_data.MEAN],
                "std": [tiles_data.STD],
            },
        },
        "scan": {"half_width": 0.3 if given else 0.05},
        "plan": {**plan, **few},
        "compensate": {"method": method},
        "finetune": {"epochs": 0},
        "compare": {"latency_batches": [1, 16]},
        "gates": GATES,
        "export": {"onnx": False, "torch_export": False},
        "report": {"pictures": 0},
    }


def read(folder: Path, project: Path) -> dict[str, Any]:
    """Return what a finished run says, and the answers of the network that it left."""
    result = json.loads((folder / "result.json").read_text())
    last = folder / "rounds" / f"{result['round']:02d}"
    comparison = json.loads((last / "comparison.json").read_text())
    metrics = json.loads((last / "metrics.json").read_text())
    choice = (metrics.get("compensation") or {}).get("choice")
    keys = ("passed", "removed", "params", "flops", "latency_ms", "latency_ratio", "failed_gates")
    model = load_pruned(last, base=load_function("model.py:tile_net", project)())
    answers = answered(model, project)
    defects = comparison["defects"]
    if answers["missed"] != defects["missed_pruned"]["hits"]:
        raise SystemExit(f"{folder}: the network that was saved answers otherwise than recorded")
    return {
        **{key: result[key] for key in keys},
        "score": comparison["score"],
        "missed_increase": defects["missed_increase"],
        "rejected_increase": defects["rejected_increase"],
        "agreement": comparison["agreement"],
        "processor_time": processor_time(model, project),
        "chosen": choice["chosen"] if choice else None,
        **answers,
    }


def processor_time(pruned: Any, project: Path) -> dict[str, float]:
    """Return what a call with one picture takes of one processor, in turn; medians, ms.

    Wall time says nothing where other programs share the processor: a call that is longer than a
    slice of the scheduler waits for them, a shorter one does not.
    """
    baseline = load_function("model.py:tile_net", project)().eval()
    x = torch.zeros(1, 1, tiles_data.SIZE, tiles_data.SIZE)
    spent = np.zeros((CALLS, 2))
    with torch.inference_mode():
        for call in range(CALLS):
            for position, model in enumerate((baseline, pruned)):
                began = time.thread_time_ns()
                model(x)
                spent[call, position] = (time.thread_time_ns() - began) / 1e6
    spent = spent[5:]
    ratios = spent[:, 1] / spent[:, 0]
    drawn = np.random.default_rng(0).integers(0, len(ratios), (BOOTSTRAP, len(ratios)))
    low, high = np.quantile(np.median(ratios[drawn], 1), [0.025, 0.975])
    before, after = np.median(spent, 0)
    ratio = float(np.median(ratios))
    return {
        "before": float(before),
        "after": float(after),
        "ratio": ratio,
        "low": float(low),
        "high": float(high),
    }


def answered(model: Any, project: Path) -> dict[str, Any]:
    """Return which test pictures are right, missed and rejected; counts, and packed outcomes."""
    images, labels, _ = tiles_data.pictures(project / "test")
    model.eval()
    with torch.inference_mode():
        said = torch.cat([model(part).argmax(1) for part in images.split(100)])
    good = tiles_data.CLASSES.index(tiles_data.GOOD)
    missed, rejected = (labels != good) & (said == good), (labels == good) & (said != good)
    return {
        "pictures": len(labels),
        "right": int((said == labels).sum()),
        "defects": int((labels != good).sum()),
        "missed": int(missed.sum()),
        "good": int((labels == good).sum()),
        "rejected": int(rejected.sum()),
        "outcomes": {
            "right": packed((said == labels).numpy()),
            "missed": packed(missed.numpy()),
            "rejected": packed(rejected.numpy()),
            "defects": packed((labels != good).numpy()),
        },
    }


def said(entry: dict[str, Any]) -> str:
    """Return the numbers of an entry in one line."""
    text = (
        f"right {entry['right']}/{entry['pictures']}, missed {entry['missed']}/{entry['defects']}, "
        f"rejected {entry['rejected']}/{entry['good']}"
    )
    if "removed" in entry:
        ratio = entry["processor_time"]["ratio"]
        text += f", {len(entry['removed'])} units, latency {ratio:.3f}, passed {entry['passed']}"
    return text


def table(args: argparse.Namespace) -> None:
    """Write the tables into docs/tiles.md."""
    text = tables(json.loads(PATH.read_text())["entries"])
    rewrite(PAGE, "tiles", text)
    print(text)


def tables(entries: list[dict[str, Any]]) -> str:
    """Return by kind of split the table of all tests together, and of every test, as markdown."""
    return "\n\n".join(filter(None, (_of_kind(kind, entries) for kind in KINDS)))


def _of_kind(kind: str, entries: list[dict[str, Any]]) -> str:
    mine = [e for e in entries if e["split"].startswith(kind)]
    runs = [e for e in mine if e["kind"] == "run"]
    done = {e["split"] for e in runs}
    networks = [e for e in mine if e["kind"] == "network" and (e["split"] in done or not done)]
    if not networks:
        return ""
    groups: list[tuple[str, list[dict[str, Any]]]] = [("unpruned", networks)]
    for target in (TARGET, *MILDER):
        for way in WAYS:
            found = [e for e in runs if (e["way"], e["target"]) == (way, target)]
            if found and len(found) == len(networks):
                groups.append((f"{way}, FLOPs at most {target:g}", found))
    lines = [
        f"| {KINDS[kind]} | accuracy | missed defects | interval | by tile | good parts "
        "rejected | interval | by tile | processor time |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [f"| {name} | {_pooled(rows, networks)} |" for name, rows in groups]
    lines += [
        "",
        "| test | | blocks out | accuracy, % | missed | rejected | processor time | "
        "latency, batch 1 | batch 16 | missed more, at most | chosen | gates |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for network in networks:
        for name, rows in groups:
            entry = next(e for e in rows if e["split"] == network["split"])
            lines.append(f"| {network['split']} | {name} | {_single(entry)} |")
    return "\n".join(lines)


def _pooled(rows: list[dict[str, Any]], networks: list[dict[str, Any]]) -> str:
    total = {key: sum(e[key] for e in rows) for key in COUNTS}
    cells = [f"{100 * total['right'] / total['pictures']:.1f} %"]
    for hits, of in (("missed", "defects"), ("rejected", "good")):
        exact = binomtest(total[hits], total[of]).proportion_ci(0.95, "exact")
        by_tile = _by_tile(rows, networks, hits)
        cells += [
            f"{total[hits]}/{total[of]} = {100 * total[hits] / total[of]:.1f} %",
            f"{100 * exact.low:.1f} to {100 * exact.high:.1f} %",
            f"{100 * by_tile[0]:.1f} to {100 * by_tile[1]:.1f} %",
        ]
    ratios = [e["processor_time"]["ratio"] for e in rows if "processor_time" in e]
    cells.append(f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else "1")
    return " | ".join(cells)


COUNTS = ("right", "pictures", "missed", "defects", "rejected", "good")


def _by_tile(
    rows: list[dict[str, Any]], networks: list[dict[str, Any]], hits: str
) -> tuple[float, float]:
    """Return the bootstrap interval of a rate, tiles drawn with all their pictures."""
    counts: dict[int, list[int]] = {}
    for network in networks:
        entry = next(e for e in rows if e["split"] == network["split"])
        hit = unpacked(entry["outcomes"][hits], entry["pictures"])
        bad = unpacked(network["outcomes"]["defects"], entry["pictures"])
        for tile, h, defective in zip(network["tiles"], hit, bad, strict=True):
            pair = counts.setdefault(tile, [0, 0])
            pair[0] += int(h)
            pair[1] += int(defective if hits == "missed" else not defective)
    pairs = np.array(list(counts.values()))
    drawn = np.random.default_rng(0).integers(0, len(pairs), (BOOTSTRAP, len(pairs)))
    sums = pairs[drawn].sum(1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return float(low), float(high)


def _single(entry: dict[str, Any]) -> str:
    cells = [
        str(len(entry["removed"])) if "removed" in entry else "0",
        f"{100 * entry['right'] / entry['pictures']:.1f}",
        f"{entry['missed']}/{entry['defects']}",
        f"{entry['rejected']}/{entry['good']}",
    ]
    if "removed" not in entry:
        return " | ".join([*cells, "1", "1", "1", "", "", ""])
    for ratio, low, high in (
        [entry["processor_time"][key] for key in ("ratio", "low", "high")],
        *(
            [entry["latency_ratio"][batch][key] for key in ("value", "low", "high")]
            for batch in ("1", "16")
        ),
    ):
        cells.append(f"{ratio:.2f} ({low:.2f} to {high:.2f})")
    cells.append(f"{100 * entry['missed_increase']['high']:+.1f} pp")
    cells.append(entry["chosen"] or "")
    cells.append(
        "passed"
        if entry["passed"]
        else f"no: {', '.join(g.partition(':')[0] for g in entry['failed_gates'])}"
    )
    return " | ".join(cells)


COMMANDS = {"train": train, "run": run, "table": table}
ABOUT = {
    "splits": SPLITS, "epochs": EPOCHS, "gap": tiles_data.GAP, "size": tiles_data.SIZE,
    "gates": GATES,
}  # fmt: skip

if __name__ == "__main__":
    main()
