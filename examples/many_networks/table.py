"""One table of many runs, from what `srinit run --json` printed of each.

python table.py --csv table.csv --md table.md results/*.json
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

HEADS = (
    "network", "accuracy before", "accuracy after", "loss", "loss low", "loss high",
    "parameters left", "latency before, ms", "latency after, ms", "times as fast", "gates",
    "why", "run",
)  # fmt: skip


def row(name: str, body: dict[str, Any]) -> list[Any]:
    """Return one network's line; accuracies are fractions, latencies those of the least batch."""
    batch = min(body["latency_ms"], key=int)
    before, after = body["latency_ms"][batch]
    numbers = [body["score"][key] for key in ("baseline", "pruned", "value", "low", "high")]
    return [
        name,
        *(round(value, 4) for value in numbers),
        round(body["params"][1] / body["params"][0], 4),
        round(before, 3),
        round(after, 3),
        round(1 / body["latency_ratio"][batch]["value"], 2),
        "passed" if body["passed"] else "FAILED",
        "; ".join([*body["failed_gates"], body["stopped_because"]]).strip("; "),
        body["run"],
    ]


def markdown(rows: list[list[Any]]) -> str:
    """Return the table for people, accuracies in percent."""
    heads = ("network", "accuracy", "loss (interval)", "parameters", "latency, ms", "gates", "why")
    lines = [heads, ["---"] * len(heads)]
    for name, one, other, loss, low, high, left, slow, fast, ratio, gates, why, _ in rows:
        lines.append(
            [
                name,
                f"{100 * one:.1f} → {100 * other:.1f} %",
                f"{100 * loss:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) points",
                f"{100 * (left - 1):+.0f} %",
                f"{slow:.2f} → {fast:.2f}, {ratio:.2f} times as fast",
                gates,
                why,
            ]
        )
    cells = [" | ".join(str(cell).replace("|", "\\|") for cell in line) for line in lines]
    return "".join(f"| {line} |\n" for line in cells)


def main(arguments: list[str]) -> None:
    """Write both tables."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("results", nargs="+", type=Path)
    given.add_argument("--csv", type=Path, required=True)
    given.add_argument("--md", type=Path, required=True)
    args = given.parse_args(arguments)
    bodies = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(args.results)}
    rows = [row(name, body) for name, body in bodies.items()]
    with args.csv.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADS, *rows])
    args.md.write_text(markdown(rows), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
