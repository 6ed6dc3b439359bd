"""Data labeled by a model, so that another model's agreement with it is a score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.errors import ModelError
from srinit.evaluate.batch_splitter import BatchSplitter
from srinit.evaluate.batches import batches_of
from srinit.evaluate.scorers import predicted
from srinit.padding import IGNORED, places_of


@dataclass(frozen=True)
class Labeled:
    """Batches `(inputs, prediction of the reference)`; see `labeled_by`."""

    reference: nn.Module
    data: Iterable[tuple[Any, Any]]

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    @property
    def dataset(self) -> object:
        """The data set behind the batches, where there is one."""
        return self.data.dataset  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        device = modules.device_of(self.reference)
        parts = BatchSplitter(device)

        def answers(inputs: object) -> Tensor:
            return modules.logits_of(
                modules.call(self.reference, modules.to_device(inputs, device))
            )

        for inputs, _ in batches_of(self.data, self.reference):
            with modules.untouched(self.reference), torch.inference_mode():
                logits = torch.cat(parts.run(answers, inputs))
            if not bool(torch.isfinite(logits).all()):
                raise ModelError(
                    "the model to agree with gives NaN or infinity; nothing can agree with that."
                )
            yield inputs, _real(self.reference, inputs, predicted(logits).cpu(), logits)


def _real(model: nn.Module, inputs: object, answers: Tensor, logits: Tensor) -> Tensor:
    """Return answers (B, T) with -100 at padded places; answers of other kinds as they are."""
    places = places_of(model, inputs) if answers.ndim == 2 and logits.ndim == 3 else None
    real = None if places is None else places.among(tuple(logits.shape))
    return answers if real is None else answers.masked_fill(~real.cpu(), IGNORED)


def labeled_by(reference: nn.Module, data: Iterable[tuple[Any, Any]]) -> Labeled:
    """Return `data` with its targets replaced by what `reference` predicts.

    Labels are not needed: whatever stands in their place is ignored. Padded tokens get -100. The
    reference runs again whenever the batches are read.

    Args:
        reference: The model to agree with, such as the unpruned one; not changed.
        data: Batches `(inputs, anything)`, or dicts of inputs.

    Raises:
        DataError: When read: tokens look padded, and nothing says where.

    Example:
        >>> from srinit.evaluate import evaluate, agreement
        >>> model, data = nn.Linear(2, 3), [(torch.eye(2), None)]
        >>> evaluate(model, labeled_by(model, data), scorer=agreement).score
        1.0
    """
    return Labeled(reference, data)
