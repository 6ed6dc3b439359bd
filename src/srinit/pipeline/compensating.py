"""Compensation within a run: on calibration examples, between the cut and fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from srinit.compensation import Choice, Compensation, compensated
from srinit.compensation.answers import Measure
from srinit.compensation.variants import Method
from srinit.distributed import ProcessGroup
from srinit.errors import CompensationError, DataError
from srinit.pipeline.session import Session
from srinit.records import record

NOTHING = "nothing"


@record
class Compensated:
    """What a run did after the cut; the record of the choice, or why there was none."""

    choice: Choice | None = None
    reason: str = ""  # why nothing could be tried


def compensate_cut(
    session: Session, pruned: nn.Module, origins: Mapping[str, str]
) -> tuple[nn.Module, Compensated]:
    """Return the cut network with what makes up for the cut best, and the record of the choice.

    All processes of a run must call it; they share the examples and come to the same network.

    Args:
        session: The run; its unpruned network is what answers are compared with.
        pruned: The cut network.
        origins: For keys of its state dict those of the unpruned network.
    """
    settings = session.config.compensate
    if settings.method == "none":
        return pruned, Compensated(reason="compensate.method: none")
    try:
        found: Compensation = compensated(
            session.model,
            pruned,
            origins,
            examples(session),
            measure=measure(session),
            confidence=session.config.compare.confidence,
            recalibration=session.config.prune.recalibrate,
            realignment=settings.method == "auto",
            ranks=ProcessGroup(),
            on_progress=session.observer.progress,
        )
    except (CompensationError, DataError) as error:
        session.observer.say(f"nothing was done after the cut: {error}")
        return pruned, Compensated(reason=str(error))
    session.observer.say(sentence(found.choice))
    return found.model, Compensated(choice=found.choice)


def measure(session: Session) -> Measure:
    """Return how answers are compared: what a user's own score reads need not be class scores."""
    return "squared" if session.config.score.startswith("py:") else "probabilities"


def method(session: Session) -> Method:
    """Return what trials try after a cut: what the run does, but for recalibration switched off."""
    settings = session.config
    is_off = settings.compensate.method == "recalibrate" and not settings.prune.recalibrate
    return "none" if is_off else settings.compensate.method


def examples(session: Session) -> list[Any]:
    """Return batches of calibration inputs, chosen by content, as many as the config says."""
    few = session.split("calibration").by_content(session.config.compensate.examples)
    return [inputs for inputs, _ in few.batches(session.config.data.batch_size)]


def sentence(choice: Choice) -> str:
    """Return what was done after the cut, among what, in one sentence."""
    by_name = {each.name: each for each in choice.candidates}
    taken, nothing = by_name[choice.chosen], by_name[NOTHING]
    tried = f"of {len(choice.candidates)} candidates on {choice.num_held_out} held-out examples"
    distance = f"{nothing.divergence:.3g}"
    if choice.chosen == NOTHING:
        return f"After the cut: nothing; none {tried} is surely nearer to the unpruned network."
    return (
        f"After the cut: {choice.chosen}, the nearest {tried} (distance of the answers "
        f"{taken.divergence:.3g}, without it {distance}); {len(choice.solved)} linear maps solved, "
        f"{len(choice.left)} left as they are."
    )
