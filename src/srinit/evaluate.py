"""Per-example outcomes of a model over a loader: never only a mean, since paired tests need them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from srinit import modules
from srinit.errors import DataError
from srinit.records import record

# B batch, C classes

Progress = Callable[[int, int | None], None]  # examples done, examples in all (if known)
"""Called after every batch; the command line draws it."""


class Scorer(Protocol):
    """A per-example score in [0, 1]; 1 is right. Differences of scores are what is measured."""

    def __call__(self, output: Any, target: Any) -> Tensor:
        """Return scores of shape (B,), from a model's output and the target of a batch."""
        ...


def top1(output: Any, target: Any) -> Tensor:
    """Return 1.0 where the most likely class is the target; non-finite outputs count as wrong."""
    logits_BC = modules.logits_of(output)
    finite_B = torch.isfinite(logits_BC).flatten(1).all(1)
    right_B: Tensor = (logits_BC.argmax(1) == target.to(logits_BC.device)) & finite_B
    return right_B.float()


@record
class Outcomes:
    """What a model did with every example, in the order of the data.

    Arrays have one entry an example. `predictions` and `confidence` are empty for tasks that do
    not choose one class per example.
    """

    scores: npt.NDArray[np.float64]  # in [0, 1]
    finite: npt.NDArray[np.bool_]  # False where the output held NaN or infinity
    targets: npt.NDArray[np.int64]  # empty where targets are not class indices
    predictions: npt.NDArray[np.int64]  # -1 where the output was not finite
    confidence: npt.NDArray[np.float64]  # softmax probability of the prediction

    @property
    def num_examples(self) -> int:
        """Number of examples."""
        return len(self.scores)

    @property
    def score(self) -> float:
        """Mean score (top-1 accuracy by default), a fraction."""
        return float(self.scores.mean())


def evaluate(
    model: nn.Module,
    data: Iterable[tuple[Any, Any]],
    *,
    scorer: Scorer = top1,
    device: torch.device | str | None = None,
    on_progress: Progress | None = None,
) -> Outcomes:
    """Return the outcome of `model` on every example of `data`.

    The model is put into evaluation mode for the while; its train flags are restored. Nothing
    is moved unless `device` is given: then the inputs are, not the model.

    Args:
        model: Any module.
        data: Iterable of `(inputs, target)` batches.
        scorer: Per-example score in [0, 1].
        device: Where the inputs go; by default to the device of the model's first parameter.
        on_progress: Called with (examples done, examples in all or None).

    Raises:
        DataError: There was no example, or the target does not fit the output.

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> _ = model.requires_grad_(False).weight.copy_(torch.eye(2))
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))]
        >>> evaluate(model, data).scores.tolist()
        [1.0, 0.0]
    """
    target_device = modules.device_of(model) if device is None else device
    total = _length(data)
    parts: list[dict[str, npt.NDArray[Any]]] = []
    done = 0
    with modules.eval_mode(model), torch.inference_mode():
        for inputs, target in data:
            output = modules.call(model, modules.to_device(inputs, target_device))
            parts.append(_outcome(output, target, scorer))
            done += len(parts[-1]["scores"])
            if on_progress is not None:
                on_progress(done, total)
    if done == 0:
        raise DataError("the data holds no example; nothing can be measured on it.")
    keys = parts[0].keys()
    return Outcomes(**{key: np.concatenate([part[key] for part in parts]) for key in keys})


def _outcome(output: Any, target: Any, scorer: Scorer) -> dict[str, npt.NDArray[Any]]:
    scores_B = scorer(output, target).detach().double().cpu()
    logits = modules.logits_of(output)
    finite_B = torch.isfinite(logits).flatten(1).all(1).cpu()
    one_class = logits.ndim == 2 and isinstance(target, Tensor) and target.ndim == 1
    if not one_class:
        empty = np.empty(0)
        return {
            "scores": scores_B.numpy(),
            "finite": finite_B.numpy(),
            "targets": empty.astype(np.int64),
            "predictions": empty.astype(np.int64),
            "confidence": empty,
        }
    num_classes = logits.shape[1]
    if int(target.max()) >= num_classes or int(target.min()) < 0:
        raise DataError(
            f"the data has class index {int(target.max())}, but the model has "
            f"{num_classes} outputs (0 to {num_classes - 1})."
        )
    confidence_B, predictions_B = logits.float().softmax(1).max(1)
    return {
        "scores": scores_B.numpy(),
        "finite": finite_B.numpy(),
        "targets": target.cpu().long().numpy(),
        "predictions": torch.where(finite_B, predictions_B.cpu(), -1).numpy(),
        "confidence": torch.where(finite_B, confidence_B.cpu().double(), 0.0).numpy(),
    }


def _length(data: Iterable[Any]) -> int | None:
    dataset = getattr(data, "dataset", data)
    try:
        return len(dataset)  # type: ignore[arg-type]
    except TypeError:
        return None
