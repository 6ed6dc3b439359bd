"""The steps of a run: pure functions that name what they need and what they leave.

The arguments of a step are names: of what other steps left (`srinit.runs.artifacts`), of what the
config names (`srinit.pipeline.resources`), and of what a round of pruning begins with
(`srinit.pipeline.rounds`). Which steps rest on which keys of the config follows from them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from srinit.config import Config
from srinit.runs import Artifact

F = TypeVar("F", bound=Callable[..., Any])
Words = Callable[..., str]


@dataclass(frozen=True)
class Step:
    """One step: what it leaves, and the function that makes it."""

    outputs: tuple[Artifact[Any], ...]  # in the order of being written; the last says it is done
    call: Callable[..., Any]
    needs: tuple[str, ...]  # its arguments, by name
    part: str  # what people call what is made anew together
    verb: str  # of its entry in the audit log; empty: none
    decision: Words | None
    reason: Words | None
    together: Callable[[Config], bool]  # all processes take it, not rank 0 alone
    keys: Mapping[str, tuple[str, ...]]  # of the config, where an argument rests on fewer
    but: tuple[str, ...]  # keys that it does not rest on
    always: bool  # made anew whenever it is asked for, until the run is sealed

    @property
    def name(self) -> str:
        """The name of its last output."""
        return self.outputs[-1].name


@dataclass
class Table:
    """All steps, by what they leave."""

    steps: list[Step] = field(default_factory=list)
    by_output: dict[str, Step] = field(default_factory=dict)

    def add(self, step: Step) -> None:
        """Add a step.

        Raises:
            ValueError: Another one leaves the same.
        """
        for artifact in step.outputs:
            if artifact.name in self.by_output:
                raise ValueError(f"two steps make {artifact.name}")
            self.by_output[artifact.name] = step
        self.steps.append(step)


TABLE = Table()


def step(
    *outputs: Artifact[Any],
    part: str,
    says: tuple[str, Words] | None = None,
    reason: Words | None = None,
    together: bool | Callable[[Config], bool] = False,
    keys: Mapping[str, tuple[str, ...]] | None = None,
    but: tuple[str, ...] = (),
    always: bool = False,
) -> Callable[[F], F]:
    """Put a function into the table.

    Args:
        outputs: What it returns: one value, or a tuple of as many; None is not written.
        part: What people call it.
        says: Verb and decision of its entry in the audit log; the decision is a function of the
            outputs.
        reason: The reason in that entry, a function of the outputs.
        together: All processes of a run take the step and come to the same; else rank 0 alone.
        keys: For an argument the keys of the config that it stands for here; where it is what
            another step left, these instead of all that step rests on.
        but: Keys of the config that the step does not rest on.
        always: It is made anew whenever it is asked for.
    """

    def add(function: F) -> F:
        TABLE.add(
            Step(
                outputs=outputs,
                call=function,
                needs=tuple(inspect.signature(function).parameters),
                part=part,
                verb=says[0] if says else "",
                decision=says[1] if says else None,
                reason=reason,
                together=together if callable(together) else lambda _: bool(together),
                keys=keys or {},
                but=but,
                always=always,
            )
        )
        return function

    return add
