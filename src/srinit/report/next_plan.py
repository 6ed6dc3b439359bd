"""Commands for another plan: fewer blocks, or more, in the terms in which the target was set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srinit.display import command
from srinit.report.data import ReportInput

COSTS = ("params", "flops", "latency")


def fewer(report: ReportInput) -> str:
    """Return the command that removes fewer blocks; empty where there is no smaller plan.

    Every part of the target is loosened by half of what it asks for.

    Example:
        >>> from srinit.report.next_plan import _loosened
        >>> _loosened(0.7, 1.0), _loosened(1_000_000, 2_000_000)
        (0.85, 1500000)
    """
    target, names = report.plan.target, report.plan.names
    options = [
        (key, _loosened(target[key], 1.0 if target[key] <= 1 else _whole(report, key)))
        for key in COSTS
        if _is_number(target.get(key))
    ]
    if _is_number(target.get("max_drop")):
        options.append(("max_drop", _short(target["max_drop"] / 2)))
    if options:
        return _plan(report, options)
    return _removing(report, names[:-1]) if len(names) > 1 else ""


def more(report: ReportInput) -> str:
    """Return the command that removes more blocks; empty where none is left that may go."""
    target, names = report.plan.target, report.plan.names
    if len(names) >= len(report.plan.ranking):
        return ""
    options = [(key, _tightened(target[key])) for key in COSTS if _is_number(target.get(key))]
    if _is_number(target.get("max_drop")):
        options.append(("max_drop", _short(2 * target["max_drop"])))
    if options:
        return _plan(report, options)
    return _removing(report, report.plan.ranking[: len(names) + 1])


def _plan(report: ReportInput, options: list[tuple[str, float]]) -> str:
    words = [part for key, value in options for part in (f"--{key.replace('_', '-')}", f"{value}")]
    return command("plan", Path(report.run), *words)


def _removing(report: ReportInput, names: tuple[str, ...]) -> str:
    return command("plan", Path(report.run), "--remove", ",".join(names))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(report: ReportInput, key: str) -> float:
    """Return what the unpruned network costs."""
    first = report.plan.prefixes[0]
    if key != "latency":
        return float(getattr(first, key))
    return max((first.latency_ms or {"": 0.0}).values())


def _loosened(value: float, whole: float) -> float:
    return _short(value + max(whole - value, 0.0) / 2)


def _tightened(value: float) -> float:
    return _short(0.8 * value)


def _short(value: float) -> float:
    return round(value) if value > 100 else float(f"{value:.3g}")
