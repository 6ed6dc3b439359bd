"""Magnetic tiles: segmentation, detection and anomaly detection before and after a cut.

    python benchmarks/tiles_marked.py train --out FOLDER     three small networks
    python benchmarks/tiles_marked.py run --out FOLDER       `srinit run` on each
    python benchmarks/tiles_marked.py table                  written into docs/tiles.md

Trained on four of the six sessions in which every tile was photographed, tested on two; of the
session between, a third of the tiles validates, and the rest chooses the layers. The tiles are the
same ones.
The product is driven the user's way: folders, boxes.json, a YAML config, the command line.
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

import tiles_data
import tiles_marked_data as data
from cifar import RESULTS, Record, parser, rewrite
from srinit import load_pruned
from srinit.comparison import compare_outcomes
from srinit.evaluate import load_outcomes
from srinit.functions import load_function
from srinit.records import plain

PATH = RESULTS / "tiles_marked.json"
PAGE = tiles_data.HERE.parent / "docs" / "tiles.md"
TARGET = 0.6  # of the FLOPs may remain
OF_DETECTION = 0.88  # the head of the detector, most of its FLOPs, holds nothing to remove
CALLS = 60  # of each network, in turn, to time them
EPOCHS = {"segmentation": 16, "detection": 7}
NETWORKS = {"segmentation": "segmenter", "detection": "finder", "anomaly": "bank"}
GRAY = {"size": [data.SIZE] * 2, "channels": 1, "mean": [0.5], "std": [0.25]}
RGB = {"size": [data.SIZE] * 2, "mean": [0.0] * 3, "std": [1.0] * 3}
SIDES = ("train", "calibration", "validation", "test")
ABOUT = {"split": data.SPLIT, "target": TARGET, "epochs": EPOCHS, "size": data.SIZE}


def main() -> None:
    """Carry out one command."""
    found = parser(__doc__)
    found.add_argument("command", choices=("train", "run", "table"))
    found.add_argument("--out", type=Path, help="for weights, pictures and runs")
    found.add_argument("--tasks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    args = found.parse_args()
    torch.set_num_threads(args.threads)
    {"train": train, "run": run, "table": table}[args.command](args)


def train(args: argparse.Namespace) -> None:
    """Lay out the folders and train what is missing."""
    record, project = Record(PATH, args, ABOUT), args.out.resolve()
    steps = {
        "segmentation": lambda: data.train_segmenter(project, EPOCHS["segmentation"]),
        "detection": lambda: data.train_finder(project, EPOCHS["detection"]),
        "anomaly": lambda: data.fit_bank(project, args.shared),
    }
    for task in args.tasks:
        if not record.find(kind="network", task=task):
            counts = data.prepare(args.shared, project)
            record.add(kind="network", task=task, data=counts, **steps[task]())


def configured(task: str) -> dict[str, Any]:
    """Return the config of a run."""
    kind = {"segmentation": "masks", "detection": "coco", "anomaly": "folder"}[task]
    end = {"masks": "", "coco": "/boxes.json", "folder": "/images"}[kind]
    classes = [tiles_data.GOOD, *(c for c in tiles_data.CLASSES if c != tiles_data.GOOD)]
    of_task: dict[str, Any] = {
        "segmentation": {"preprocess": GRAY, "masks": {"missing": "good", "min_area": 4}},
        "detection": {"preprocess": RGB, "boxes": {"threshold": 0.3}},
        "anomaly": {"preprocess": {"size": [64, 64]}, "classes": classes},
    }[task]
    sides = [side for side in SIDES if task != "anomaly" or side != "validation"]
    return {
        "name": task,
        "device": "cpu",
        "model": {
            "source": f"py:tiles_marked_model.py:{NETWORKS[task]}",
            "weights": f"{NETWORKS[task]}.safetensors",
        },
        "score": {"segmentation": "defect_iou", "detection": "objects", "anomaly": "anomaly"}[task],
        "data": {**{side: f"{kind}:{side}{end}" for side in sides}, "batch_size": 32, **of_task},
        "scan": {"half_width": 0.3, "scheme": "default"},
        "plan": {
            "flops": OF_DETECTION if task == "detection" else TARGET,
            "trial_examples": 32,
            "beside": [],
        },
        "finetune": {"epochs": {"segmentation": 4, "detection": 2}.get(task, 0), "rehearsal": 0},
        "compare": {"latency_batches": [1]},
        "gates": {"max_drop": 0.1, "max_missed_defect_increase": 0.1},
        "export": {"torch_export": False, "onnx": task != "detection"},
        "registry": {"track": False},
    }


def run(args: argparse.Namespace) -> None:
    """Call `srinit run` for every task that is missing."""
    record, project = Record(PATH, args, ABOUT), args.out.resolve()
    for task in args.tasks:
        if record.find(kind="run", task=task) or not record.find(kind="network", task=task):
            continue
        config = project / f"{task}.yaml"
        config.write_text(yaml.safe_dump(configured(task), sort_keys=False))
        began = time.monotonic()
        command = [sys.executable, "-m", "srinit", "run", "-c", str(config), "--json"]
        done = subprocess.run(
            [*command, "--out", str(project / "runs")], capture_output=True, text=True, check=False,
            env={**os.environ, "OMP_NUM_THREADS": str(args.threads)},
        )  # fmt: skip
        (project / f"{task}.log").write_text(done.stderr)
        if done.returncode not in (0, 3):  # 3: a gate said no
            raise SystemExit(f"srinit run ended with {done.returncode}:\n{done.stderr[-3000:]}")
        folder = Path(json.loads(done.stdout)["run"])
        found = read(folder, project, task)
        record.add(kind="run", task=task, **found, wall_seconds=round(time.monotonic() - began))
        print(task, "done", flush=True)


def read(folder: Path, project: Path, task: str) -> dict[str, Any]:
    """Return what a finished run says, and the processor time of both networks."""
    result = json.loads((folder / "result.json").read_text())
    last = folder / "rounds" / f"{result['round']:02d}"
    comparison = json.loads((last / "comparison.json").read_text())
    keys = ("score", "counts", "defects", "auroc", "agreement")
    outcomes, _ = load_outcomes(last / "predictions.npz")
    names = configured(task)["data"].get("classes") or ["good", "defect"]
    again = compare_outcomes(
        outcomes["baseline"], outcomes["pruned"], class_names=names, defect_class=names[1:]
    )
    comparison["auroc"] = plain(again.auroc)
    precision = last / "precision.json"
    return {
        **{key: result[key] for key in ("passed", "removed", "params", "flops", "failed_gates")},
        **{key: comparison[key] for key in keys},
        "precision": json.loads(precision.read_text()) if precision.is_file() else None,
        "processor_time": _processor_time(last, project, task),
    }


def _processor_time(last: Path, project: Path, task: str) -> float:
    """Return the median ratio of a call's processor time after the cut to that before."""
    factory = load_function(f"tiles_marked_model.py:{NETWORKS[task]}", project)
    networks = [factory().eval(), load_pruned(last, base=factory()).eval()]
    side = 64 if task == "anomaly" else data.SIZE
    x = torch.rand(1, 1 if task == "segmentation" else 3, side, side,
                   generator=torch.Generator().manual_seed(0))  # fmt: skip
    spent = np.zeros((CALLS, 2))
    with torch.inference_mode():
        for call in range(CALLS):
            for position, model in enumerate(networks):
                began = time.thread_time_ns()
                model(x)
                spent[call, position] = time.thread_time_ns() - began
    return float(np.median(spent[5:, 1] / spent[5:, 0]))


def table(args: argparse.Namespace) -> None:
    """Write the table into docs/tiles.md."""
    text = tables(json.loads(PATH.read_text())["entries"])
    rewrite(PAGE, "tiles marked", text)
    print(text)


def tables(entries: list[dict[str, Any]]) -> str:
    """Return what was measured as markdown."""
    lines = ["| task | measure | before | after | change, interval |", "|---|---|---|---|---|"]
    for entry in (e for e in entries if e["kind"] == "run"):
        flops = entry["flops"]
        lines.append(
            f"| {entry['task']} | FLOPs; processor time | 1 | {flops[1] / flops[0]:.2f}; "
            f"{entry['processor_time']:.2f} | {len(entry['removed'])} blocks out |"
        )
        lines += [f"| | {' | '.join(row)} |" for row in _rows(entry)]
    return "\n".join(lines)


def _rows(entry: dict[str, Any]) -> list[list[str]]:
    """Return the measures of a run: what they are, before, after, change."""
    score, defects = entry["score"], entry["defects"]
    rows = [["score", _share(score["baseline"]), _share(score["pruned"]), _change(score, -1)]]
    for name, key in (("missed defective parts", "missed"), ("good parts rejected", "rejected")):
        sides = [defects[f"{key}_{side}"] for side in ("baseline", "pruned")]
        shown = [f"{s['hits']}/{s['total']} = {_interval(s)}" for s in sides]
        rows.append([name, *shown, _change(defects[f"{key}_increase"])])
    for count in entry["counts"]:
        sides = [count["baseline"], count["pruned"]]
        parts = "" if count["name"] == "dice" else "{part:.0f}/{whole:.0f} = "
        shown = [parts.format(**s) + _interval(s) for s in sides]
        rows.append([count["name"].replace("_", " "), *shown, _change(count["change"])])
    if entry["auroc"]:
        area = entry["auroc"]
        shown = [_interval(area[side]) for side in ("baseline", "pruned")]
        rows.append(["AUROC", *shown, _change(area["loss"], -1)])
        missed = area["missed"]
        shown = [_share(missed[side]) for side in ("baseline", "pruned")]
        rows.append(["missed defective parts at 5 % of the good ones", *shown, _change(missed)])
    for name, key in (("mAP, 0.5 to 0.95", "mean"), ("mAP, 0.5", "at_half")):
        if entry["precision"]:
            one, other = (entry["precision"][side][key] for side in ("baseline", "pruned"))
            rows.append([name, _share(one), _share(other), f"{100 * (other - one):+.1f}"])
    return rows


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(found: dict[str, Any]) -> str:
    ends = f"{100 * found['low']:.1f} to {100 * found['high']:.1f}"
    return f"{_share(found['value'])} ({ends})"


def _change(found: dict[str, Any], sign: int = 1) -> str:
    low, high = sorted(100 * sign * found[key] for key in ("low", "high"))
    return f"{100 * sign * found['value']:+.1f} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    main()
