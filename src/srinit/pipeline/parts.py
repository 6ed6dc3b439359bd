"""Which files of a run rest on which keys of its config: read off the table of steps."""

from __future__ import annotations

from srinit.custody.depends import Part, Parts
from srinit.delivery import (  # noqa: F401
    alternatives,
    finishing,
    folder,
    packaging,
    quantizing,
)
from srinit.pipeline import views  # noqa: F401  (what steps begin with)
from srinit.pipeline.keys import APART, INPUTS, KEYS
from srinit.pipeline.runner import VIEWS
from srinit.runs.files import REJECTED, ROUNDS
from srinit.steps import (  # noqa: F401  (steps come into the table where they are written)
    field_data,
    judging,
    looking,
    planning,
    pruning,
    training,
)
from srinit.steps.table import TABLE, Step

VIEW_KEYS = {"criterion": ("plan.criterion",)}
VIEW_PARTS = {"round_plan": ("plan",)}  # what a round begins with rests on the round before
DATA = ("calibration", "validation", "test", "train", "fitted_model", "example_inputs")


def _keys(step: Step, need: str) -> tuple[str, ...]:
    """Return the keys that an argument of a step stands for."""
    if need in step.keys:
        return step.keys[need]
    if need == "execution":
        return ("seed",)
    if need == "data":
        return (*KEYS[need], "data.site")
    if need in DATA:
        return (*INPUTS, "seed")  # which splits them
    section = need.removesuffix("_settings")
    return (section,) if section != need else KEYS.get(need, ())


def _part(name: str, steps: list[Step]) -> Part:
    keys: list[str] = []
    before: list[str] = []
    but = {key for step in steps for key in step.but}
    for step in steps:
        for need in step.needs:
            if need in TABLE.by_output and need not in step.keys:
                before.append(TABLE.by_output[need].part)
            elif need in VIEWS:
                before += VIEW_PARTS.get(need, ())
                keys += VIEW_KEYS.get(need, ())
            else:
                keys += _keys(step, need)
    but |= {key for key in APART if key not in keys}
    return Part(
        name=name,
        files=tuple(p for step in steps for output in step.outputs for p in output.patterns),
        keys=tuple(dict.fromkeys(keys)),
        after=tuple(part for part in dict.fromkeys(before) if part != name),
        but=tuple(sorted(but)),
    )


def _made() -> Parts:
    by_part: dict[str, list[Step]] = {}
    for step in TABLE.steps:
        by_part.setdefault(step.part, []).append(step)
    return Parts(
        (_part(name, steps) for name, steps in by_part.items()),
        rounds=(f"{ROUNDS}/", f"{REJECTED}/"),
        cut="cut",
    )


PARTS = _made()
