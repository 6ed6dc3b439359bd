"""The tables of `benchmarks/field.py`, from what it measured: as JSON and in docs/criteria.md."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from scipy import stats

from cifar import HERE, RESULTS, rewrite

OURS = "ours"  # the others are compared with it


def tables() -> tuple[str, dict[str, Any]]:
    """Return the tables of every network measured, as markdown and as records."""
    text, found = "", {}
    for path in sorted(RESULTS.glob("field_resnet*_*.json")):
        body = json.loads(path.read_text())
        rows = summary(body["entries"])
        found[path.stem] = {"about": body["about"], "rows": rows}
        text += rendered(body["about"], rows)
    for path in sorted(RESULTS.glob("field_latency_resnet*.json")):
        text += rendered_latency(json.loads(path.read_text()))
    return text, found


def table(args: argparse.Namespace) -> None:
    """Write accuracies and latencies of every network measured, as JSON and markdown."""
    text, found = tables()
    (RESULTS / "field_summary.json").write_text(json.dumps(found, indent=1) + "\n")
    rewrite(HERE.parent / "docs" / "criteria.md", "field", text)
    print(text)


def summary(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean accuracies, and how much better `OURS` is with the same seeds."""
    rows = []
    methods = sorted({e["method"] for e in entries}, key=lambda name: (name != OURS, name))
    for point in sorted({e["point"] for e in entries}):
        here = {
            method: {e["seed"]: e for e in entries if (e["point"], e["method"]) == (point, method)}
            for method in methods
        }
        for method, found in here.items():
            if not found:
                continue
            values = [e["accuracy"] for e in found.values()]
            row = {"point": point, "method": method, "seeds": len(values)}
            row["accuracy"], row["reach"] = over_seeds(values)
            both = sorted(found.keys() & here.get(OURS, {}).keys())
            if method != OURS and both:
                gains = [here[OURS][s]["accuracy"] - found[s]["accuracy"] for s in both]
                row["ours_better"], row["ours_better_reach"] = over_seeds(gains)
            for key in ("params_removed", "flops_removed"):
                row[key] = float(np.mean([e[key] for e in found.values()]))
            row["blocks"] = len(next(iter(found.values()))["blocks"])
            rows.append(row)
    return rows


def over_seeds(values: list[float]) -> tuple[float, float | None]:
    """Return the mean and half of Student's 95 % interval; None for a single value."""
    if len(values) < 2:
        return float(values[0]), None
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(stats.t.ppf(0.975, len(values) - 1) * error)


def points(value: float | None, reach: float | None, sign: str = "") -> str:
    """Return a fraction with its interval, in points."""
    if value is None:
        return ""
    return f"{100 * value:{sign}.2f}" + ("" if reach is None else f" ± {100 * reach:.2f}")


def rendered(about: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    lines = [
        f"ResNet-{about['depth']}, {about['steps']} steps of recovery at batch {about['batch']}; "
        "± is Student's 95 % interval over seeds:\n",
        f"| blocks | method | top-1, % | `{OURS}` better by, points | seeds | params | FLOPs |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        better = points(row.get("ours_better"), row.get("ours_better_reach"), "+")
        lines.append(
            f"| {row['blocks'] or '-'} | {row['method']} | {points(row['accuracy'], row['reach'])} "
            f"| {better} | {row['seeds']} | -{100 * row['params_removed']:.1f} % "
            f"| -{100 * row['flops_removed']:.1f} % |"
        )
    return "\n".join(lines) + "\n\n"


def rendered_latency(body: dict[str, Any]) -> str:
    lines = [
        f"ResNet-{body['about']['depth']} on {body['about']['threads']} thread(s) with "
        f"{body['about']['instructions'].upper()}, latency kept = "
        "measured speed-up / FLOP reduction [95 % interval over calls]:\n",
        "| blocks removed | runtime | batch | FLOPs | speed-up | latency kept |",
        "|---|---|---|---|---|---|",
    ]
    for e in body["entries"]:
        if e["kind"] == "speed":
            low, high = e["kept_interval"]
            fewer = f"{e['flop_reduction']:.2f}x fewer"
            lines.append(
                f"| {e['point']} | {e['runtime']} | {e['batch']} | {fewer} "
                f"| {e['speed_up']:.2f}x | {e['kept']:.2f} [{low:.2f}, {high:.2f}] |"
            )
    widths = [e for e in body["entries"] if e["kind"] == "width"]
    if widths:
        lines += [
            "",
            "Torch-Pruning, as fast as `ours` (PyTorch, batch 64) where it can be:",
            "",
            "| blocks `ours` removes | inner channels removed | FLOPs | time / `ours` |",
            "|---|---|---|---|",
        ]
    for e in widths:
        lines.append(
            f"| {e['point']} | {100 * e['ratio']:.0f} % | -{100 * e['flops_removed']:.1f} % "
            f"| {e['latency_against_ours']:.2f} |"
        )
    return "\n".join(lines) + "\n\n"
