"""Renders the results of `benchmarks/scan.py` as tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


def tables(folder: Path) -> str:
    """Return all tables, as Markdown, of the results in a folder."""
    found = []
    for name, (title, columns, row) in TABLES.items():
        path = folder / f"scan_{name}.json"
        if not path.is_file():
            continue
        entries = json.loads(path.read_text("utf-8"))["entries"]
        rows = [cells for cells in map(row, entries) if cells]
        found.append(f"### {title}\n\n{_table(columns, rows)}\n\n{_where(entries)}\n")
    return "\n".join(found)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(columns), ["---"] * len(columns), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _where(entries: Sequence[Entry]) -> str:
    places: dict[str, set[str]] = {}
    for entry in entries:
        at = entry["where"]
        device = at.get("gpu") or f"{at['cpu']}, {at['threads']} of {at['cores']} cores"
        bf16 = "" if at.get("gpu") or not at["bfloat16"] else ", AVX-512 BF16"
        places.setdefault(f"{device}{bf16}, torch {at['torch']}", set()).add(at["command"])
    return "\n".join(
        f"{place}: {', '.join(f'`{command}`' for command in sorted(commands))}."
        for place, commands in places.items()
    )


def _short(seconds: float) -> str:
    """Return seconds with about three digits."""
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:.3g}"


def _ratio(entry: Entry) -> list[str]:
    runs = entry["runs"]
    seconds = [run["seconds"] for run in runs]
    wide = max(run["largest_half_width"] for run in runs)
    passes = entry["pass_seconds"]
    return [
        f"ResNet-{entry['depth']}",
        f"{entry['scheme']}" + ("" if entry["scheme"] != "auto" else f" → {runs[0]['scheme']}"),
        _arithmetic(entry),
        f"{len(runs)}",
        f"{_short(min(passes))}-{_short(max(passes))} × {entry['passes_in_reference']}",
        f"{_short(entry['reference_seconds'])}",
        f"{_short(min(seconds))}-{_short(max(seconds))}",
        f"**1/{entry['ratio']:.1f}**",
        f"{wide:.4f}",
        f"{min(r['evaluations'] for r in runs)}-{max(r['evaluations'] for r in runs)}",
    ]


def _precision(entry: Entry) -> list[str]:
    return [
        f"ResNet-{entry['depth']}",
        f"{entry['typical_error']:.4f}",
        f"{entry['evaluations_whole']}",
        f"{entry['evaluations_fresh']}",
        f"**{entry['fewer_evaluations']:.0f}×**",
        f"{_short(entry['reference_seconds'])}",
        f"{_short(entry['seconds_fresh'])}",
        f"**{entry['less_time']:.0f}×**",
    ]


def _decisions(entry: Entry) -> list[str]:
    def part(key: str) -> str:
        wrong, total = entry[key]
        return f"{wrong} of {total}"

    return [
        f"ResNet-{entry['depth']}",
        "50 whole-set draws" if entry["against"] == "whole-set" else "long scan",
        f"{entry['half_width']:g}",
        f"{entry['seed']}",
        part("decisions_wrong_and_all"),
        part("beyond_the_long_scans_error"),
        part("interval_decisions_wrong_and_all"),
        f"{entry['kendall_tau']:.3f}",
        f"{entry['covered']} of {entry['units']}",
    ]


def _memory(entry: Entry) -> list[str]:
    peaks = entry["peak_mib"]
    return [
        f"ResNet-{entry['depth']}",
        *(f"{peaks[role]:.0f}" for role in ("data", "plain", "scan")),
        f"{entry['limit_mib']:.0f}",
        "yes" if entry["holds"] else "**no**",
    ]


def _growth(entry: Entry) -> list[str]:
    if "exponent" in entry:
        return ["exponent", "", "", "", "", "", f"**{entry['exponent']:.2f}**"]
    before = entry.get("seconds_of_preparation")
    return [
        entry.get("network") or f"ResNet-{entry['depth']}",
        f"{entry['blocks']}",
        f"{entry['examples_a_unit']}",
        f"{entry['seconds']:.2f}",
        "" if before is None else f"{before:.2f}",
        f"{entry['flops'] / 1e12:.2f}",
        f"{entry['utilisation']:.1%}",
    ]


def _arithmetic(entry: Entry) -> str:
    """Return the number format of the scan; the reference is in 32 bits."""
    if "gpu" in entry["where"]:
        return "bfloat16, GPU"
    return "bfloat16" if entry["where"]["bfloat16"] else "32 bits"


def _profile(entry: Entry) -> list[str]:
    return [
        f"ResNet-{entry['depth']}",
        _arithmetic(entry),
        f"{entry['seconds']:.1f}",
        f"{entry['flops'] / 1e12:.2f}",
        f"{entry['matmul_peak'] / 1e9:.0f}",
        f"{entry['seconds_at_peak']:.1f}",
        f"{entry['seconds_at_peak'] / entry['seconds']:.0%}",
    ]


def _truth(entry: Entry) -> list[str]:
    halves = [1.96 * error for error in entry["standard_errors"].values()]
    return [
        f"ResNet-{entry['depth']}",
        f"{entry['passes']}",
        f"{entry['evaluations']}",
        f"{min(entry['draws'].values())}-{max(entry['draws'].values())}",
        f"{min(halves):.4f}-{max(halves):.4f}",
    ]


def _coverage(entry: Entry) -> list[str]:
    return [
        f"ResNet-{entry['depth']}",
        f"{entry['scans']}",
        f"{entry['covered']} of {entry['intervals']} ({entry['covered'] / entry['intervals']:.1%})",
        f"{entry['all_joint']} of {entry['scans']}",
    ]


_GROWTH = ("network", "blocks", "images a unit", "seconds", "of them preparation", "TFLOP",
           "of the matmul peak")  # fmt: skip
TABLES: dict[str, tuple[str, tuple[str, ...], Callable[[Entry], list[str]]]] = {
    "ratio": (
        "1. Every half-width at most 0.02, against 28 plain fp32 passes",
        ("network", "scheme", "arithmetic", "seeds", "pass × passes, s", "reference, s", "scan, s",
         "ratio", "largest half-width", "evaluations"),
        _ratio,
    ),
    "precision": (
        "2. To the standard error of 5 whole-set draws",
        ("network", "error", "evaluations, 5 draws", "evaluations, scan", "fewer",
         "reference, s", "scan, s", "less time"),
        _precision,
    ),
    "truth": (
        "The long scan: passes over all images, a fresh draw for every few of them",
        ("network", "passes", "evaluations", "draws a unit", "95 % half-widths"),
        _truth,
    ),
    "decisions": (
        "3. Decisions and order",
        ("network", "against", "asked for", "seed", "wrong, a half-width away",
         "wrong, beyond the reference's error too", "wrong, by joint interval", "Kendall tau",
         "intervals with the reference's drop"),
        _decisions,
    ),
    "memory": (
        "4. Peak memory of the process, MiB",
        ("network", "data loaded", "plain evaluation", "scan", "2 × plain + 256", "holds"),
        _memory,
    ),
    "growth": ("5. How the cost grows", _GROWTH, _growth),
    "gpu": ("6. On a GPU", _GROWTH, _growth),
    "large": ("6. On a GPU, networks for images of 224 x 224, untrained", _GROWTH, _growth),
    "profile": (
        "Profile: the arithmetic that cannot be avoided",
        ("network", "arithmetic", "scan, s", "TFLOP", "matmul peak, GFLOP/s",
         "at the peak, s", "reached"),
        _profile,
    ),
    "coverage": (
        "Coverage of the intervals: scans to a half-width of 0.05, seeds 100 and up",
        ("network", "scans", "intervals with the long scan's drop", "all joint ones of a scan"),
        _coverage,
    ),
}  # fmt: skip
