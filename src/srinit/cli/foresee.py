"""What `--dry-run` says of a whole run, for people: data, units and time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from srinit.cli.options import Common
from srinit.cli.output import Result


def foreseen(verb: str, config: Path, common: Common) -> Result:
    """Return what a verb on a config would do and how long it takes; nothing is written."""
    from srinit.config import load_config
    from srinit.pipeline import estimate

    facts = estimate.whole_run(load_config(config, common.overrides))
    text = "\n".join(lines(facts))
    return Result(verb=verb, data={"dry_run": True, **facts}, text=text)


def lines(facts: dict[str, Any]) -> list[str]:
    r"""Return the facts of an estimate as sentences.

    Example:
        >>> facts = {"model": "py:a", "examples": {"test": 1200}, "units": 3, "note": "a guess",
        ...          "seconds": {"scan": 90.0, "plan": 5.0}, "total_seconds": 95.0}
        >>> print("\n".join(lines(facts)))
        Model: py:a, 3 units that can be removed.
        Data: test 1,200 examples.
        Time: about 1 min 35 s (scan 1 min 30 s, plan 5 s); a guess.
        Nothing was written.
    """
    examples = ", ".join(f"{name} {count:,}" for name, count in facts["examples"].items())
    parts = ", ".join(f"{name} {_span(value)}" for name, value in facts["seconds"].items())
    return [
        f"Model: {facts['model']}, {facts['units']} units that can be removed.",
        f"Data: {examples} examples.",
        *facts.get("can_show", ()),
        f"Time: about {_span(facts['total_seconds'])} ({parts}); {facts['note']}.",
        *([f"Memory: {facts['training_memory']}"] if facts.get("training_memory") else []),
        "Nothing was written.",
    ]


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole < 1:
        return "under 1 s"
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"
