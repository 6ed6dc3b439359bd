"""Prints the picture of a run in docs/ARCHITECTURE.md, read off the table of steps.

python scripts/draw_steps.py
"""

from __future__ import annotations

from srinit.pipeline import parts  # noqa: F401  (brings all steps into the table)
from srinit.steps.table import TABLE


def picture() -> str:
    """Return the steps as a Mermaid flow chart: an arrow is a file that another step reads."""
    lines = ["```mermaid", "flowchart TD"]
    for step in TABLE.steps:
        files = "<br>".join(f"{'round/' if o.in_round else ''}{o.path}" for o in step.outputs)
        lines.append(f'  {step.name}["<b>{step.call.__name__}</b><br>{files}"]')
    for step in TABLE.steps:
        needs = {TABLE.by_output[n].name for n in step.needs if n in TABLE.by_output}
        needs |= {"plan"} if "round_plan" in step.needs else set()
        lines += [f"  {need} --> {step.name}" for need in sorted(needs)]
    return "\n".join([*lines, "```"])


if __name__ == "__main__":
    print(picture())
