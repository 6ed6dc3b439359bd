"""Compensation within a run: on calibration examples, between the cut and fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from srinit.compensation import Choice, Compensation, compensated
from srinit.compensation.answers import Measure
from srinit.compensation.choose import Offer
from srinit.compensation.variants import Method
from srinit.config.sections import CompensateSection
from srinit.errors import CompensationError, DataError
from srinit.evaluate import Detection
from srinit.runs.records import Compensated
from srinit.sources import DataSet
from srinit.steps.task import Execution, Task

NOTHING = "nothing"
OFFERS: dict[str, Offer] = {"auto": "all", "fold": "fold", "recalibrate": "none"}


@dataclass(frozen=True)
class Compensator:
    """What is done after a cut without training, and on which examples."""

    teacher: nn.Module  # the unpruned network, which answers are compared with
    calibration: DataSet
    settings: CompensateSection
    recalibrates: bool  # batch statistics may be estimated anew
    task: Task
    execution: Execution

    def compensated(
        self, cut: nn.Module, origins: Mapping[str, str]
    ) -> tuple[nn.Module, Compensated]:
        """Return the cut network with what makes up for the cut best, and the choice.

        All processes of a run must call it; they share the examples and come to the same network.

        Args:
            cut: The cut network.
            origins: For keys of its state dict those of the unpruned network.
        """
        if self.settings.method == "none":
            return cut, Compensated(reason="compensate.method: none")
        observer = self.execution.observer
        try:
            found: Compensation = compensated(
                self.teacher,
                cut,
                origins,
                self.examples(),
                measure=self.measure,
                confidence=self.task.confidence,
                recalibration=self.recalibrates,
                offer=OFFERS[self.settings.method],
                ranks=self.execution.ranks,
                on_progress=observer.progress,
            )
        except (CompensationError, DataError) as error:
            observer.say(f"nothing was done after the cut: {error}")
            return cut, Compensated(reason=str(error))
        observer.say(sentence(found.choice))
        return found.model, Compensated(choice=found.choice)

    @property
    def measure(self) -> Measure:
        """How answers are compared: what a user's own score reads need not be class scores."""
        if isinstance(self.task.scorer, Detection):
            return "detections"
        return "squared" if self.task.score.startswith("py:") else "probabilities"

    @property
    def method(self) -> Method:
        """What trials try after a cut: what the run does, but for what is switched off."""
        is_off = self.settings.method == "recalibrate" and not self.recalibrates
        return "none" if is_off else self.settings.method

    def examples(self) -> list[Any]:
        """Return batches of calibration inputs, chosen by content, as many as the config says."""
        few = self.calibration.by_content(self.settings.examples)
        return [inputs for inputs, _ in self.execution.batches(few)]


def sentence(choice: Choice) -> str:
    """Return what was done after the cut, among what, in one sentence."""
    by_name = {each.name: each for each in choice.candidates}
    taken, nothing = by_name[choice.chosen], by_name[NOTHING]
    tried = f"of {len(choice.candidates)} candidates on {choice.num_held_out} held-out examples"
    distance = f"{nothing.distance:.3g}"
    if choice.chosen == NOTHING:
        return f"After the cut: nothing; none {tried} is surely nearer to the unpruned network."
    return (
        f"After the cut: {choice.chosen}, the nearest {tried} (distance of the answers "
        f"{taken.distance:.3g}, without it {distance}); {len(choice.solved)} linear maps solved, "
        f"{len(choice.left)} left as they are."
    )
