"""Prints the picture of a run in docs/ARCHITECTURE.md, read off the table of steps.

python scripts/draw_steps.py
"""

from __future__ import annotations

from graphlib import TopologicalSorter

from srinit.pipeline import parts  # noqa: F401  (brings all steps into the table)
from srinit.steps.table import TABLE, Step


def picture() -> str:
    """Return the steps as a Mermaid flow chart: an arrow is a file that another step reads."""
    needs = {step.name: _needs(step) for step in TABLE.steps}
    ordered = TopologicalSorter(dict(sorted(needs.items())))
    steps = [TABLE.by_output[name] for name in ordered.static_order()]
    lines = ["```mermaid", "flowchart TD"]
    for step in steps:
        files = "<br>".join(f"{'round/' if o.in_round else ''}{o.path}" for o in step.outputs)
        lines.append(f'  {step.name}["<b>{step.call.__name__}</b><br>{files}"]')
    lines += [f"  {need} --> {step.name}" for step in steps for need in needs[step.name]]
    return "\n".join([*lines, "```"])


def _needs(step: Step) -> list[str]:
    """Return the steps whose files a step reads."""
    plan = {"plan"} if "round_plan" in step.needs else set()
    return sorted({TABLE.by_output[n].name for n in step.needs if n in TABLE.by_output} | plan)


if __name__ == "__main__":
    print(picture())
