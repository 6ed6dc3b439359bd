"""The processor and times on it. Shipped with edge packages: the standard library is enough."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SCHEMA = "srinit.times/1"
OF_INT8 = (
    "avx2", "avx512bw", "avx512_vnni", "avx_vnni", "amx_int8",  # x86
    "asimd", "asimddp", "i8mm", "sve",  # ARM
)  # fmt: skip
WARM_UP = 5


def processor() -> str:
    """Return the name of the board or processor, as the system tells it."""
    for path, mark in (("/proc/device-tree/model", ""), ("/proc/cpuinfo", "model name")):
        try:
            text = Path(path).read_text("utf-8", errors="replace").replace("\0", "")
        except OSError:
            continue
        lines = [line.rpartition(": ")[2].strip() for line in text.splitlines() if mark in line]
        if lines and lines[0]:
            return lines[0]
    return platform.processor() or platform.machine()


def instructions() -> list[str]:
    """Return which instructions that help with 8-bit integers the processor has, where known."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return []
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    there = set(lines[0].partition(":")[2].split()) if lines else set()
    return [name for name in OF_INT8 if name in there]


def device() -> dict[str, Any]:
    """Return what a time depends on besides the file: processor, cores, system, Python."""
    return {
        "processor": processor(),
        "machine": platform.machine(),
        "instructions": instructions(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def in_turn(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the times of each call in milliseconds, taken in turn after a warm-up."""
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            found[name].append(1000 * (time.perf_counter() - begin))
    return found


def summary(times: list[float]) -> dict[str, float]:
    """Return median, 10th and 90th percentile of some times, in milliseconds."""
    tenths = statistics.quantiles(times, n=10, method="inclusive")
    return {
        "median_ms": statistics.median(times),
        "p10_ms": tenths[0],
        "p90_ms": tenths[-1],
        "repeats": len(times),
    }


def hashed(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with its SHA-256, of its compact JSON with sorted keys."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return {**body, "sha256": hashlib.sha256(text.encode()).hexdigest()}
