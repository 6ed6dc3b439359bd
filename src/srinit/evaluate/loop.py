"""Per-example outcomes of a model over a loader: never only a mean; paired tests need more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from srinit import modules
from srinit.errors import DataError
from srinit.evaluate.outcomes import Outcomes
from srinit.evaluate.parts import Parts
from srinit.evaluate.scorers import Scorer, predicted, top1

# B batch, C classes

Progress = Callable[[int, int | None], None]  # examples done, examples in all (if known)
"""Called after every batch; the command line draws it."""

Part = dict[str, npt.NDArray[Any]]


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
    is moved unless `device` is given: then the inputs are, not the model. A batch that does not
    fit into memory is cut in halves, and so are those that follow.

    Args:
        model: Any module.
        data: Iterable of `(inputs, target)` batches.
        scorer: Per-example score in [0, 1]; see `SCORERS`.
        device: Where the inputs go; by default to the device of the model's first parameter.
        on_progress: Called with (examples done, examples in all or None).

    Raises:
        DataError: There was no example, or the target does not fit the output.
        ResourceError: Not even one example fits into memory.
        ValueError: The scorer returned something else than scores in [0, 1].

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> _ = model.requires_grad_(False).weight.copy_(torch.eye(2))
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))]
        >>> evaluate(model, data).scores.tolist()
        [1.0, 0.0]
    """
    place = modules.device_of(model) if device is None else torch.device(device)
    total = _length(data)
    parts: list[Part] = []
    done, pieces = 0, Parts(place)

    def outcome(piece: tuple[Any, Any]) -> Part:
        inputs, target = piece
        return outcome_of(modules.call(model, modules.to_device(inputs, place)), target, scorer)

    with modules.eval_mode(model), torch.inference_mode():
        for inputs, target in data:
            found = pieces.run(outcome, (inputs, target))
            parts += found
            done += sum(len(part["scores"]) for part in found)
            if on_progress is not None:
                on_progress(done, total)
    if done == 0:
        raise DataError("the data holds no example; nothing can be measured on it.")
    return joined(parts)


def joined(parts: Sequence[Part]) -> Outcomes:
    """Return the outcomes of several batches, in their order."""
    return Outcomes(**{key: np.concatenate([part[key] for part in parts]) for key in parts[0]})


def outcome_of(output: Any, target: Any, scorer: Scorer) -> Part:
    """Return the outcomes of a batch, as arrays, from what a model returned for it."""
    logits = modules.logits_of(output)
    finite_B = torch.isfinite(logits).reshape(len(logits), -1).all(1).cpu()
    one_class = logits.ndim <= 2 and isinstance(target, Tensor) and target.ndim == 1
    if one_class:
        _check_targets(target, max(2, logits.shape[1] if logits.ndim == 2 else 1))
    scores_B = _checked(scorer(output, target), len(finite_B), finite_B, scorer)
    found: Part = {"scores": scores_B.numpy(), "finite": finite_B.numpy()}
    if not one_class:
        empty = np.empty(0)
        none = empty.astype(np.int64)
        return {**found, "targets": none, "predictions": none, "confidence": empty}
    classes_B = torch.where(finite_B, predicted(logits).cpu(), -1)
    return {
        **found,
        "targets": target.cpu().long().numpy(),
        "predictions": classes_B.numpy(),
        "confidence": torch.where(finite_B, _confidence(logits).cpu().double(), 0.0).numpy(),
    }


def _check_targets(target: Tensor, num_classes: int) -> None:
    if target.numel() == 0:
        return
    low, high = int(target.min()), int(target.max())
    if low < 0:
        raise DataError(
            f"the data holds unlabeled examples (target {low}); score them by agreement with "
            "another model: evaluate(model, labeled_by(reference, data), scorer=agreement)."
        )
    if high >= num_classes:
        raise DataError(
            f"the data has class index {high}, but the model has {num_classes} outputs "
            f"(0 to {num_classes - 1})."
        )


def _checked(scores: Any, count: int, finite: Tensor, scorer: Scorer) -> Tensor:
    """Return a scorer's scores on the CPU; those of outputs that are not finite are 0."""
    name = getattr(scorer, "__name__", type(scorer).__name__)
    if not isinstance(scores, Tensor) or scores.shape != (count,):
        found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"the scorer {name} should return a tensor ({count},), found {found}.")
    scores_B = torch.where(finite, scores.detach().double().cpu(), 0.0)
    if not bool(((scores_B >= 0) & (scores_B <= 1)).all()):
        raise ValueError(
            f"the scorer {name} should return scores in [0, 1], found "
            f"{float(scores_B.min()):g} to {float(scores_B.max()):g}."
        )
    return scores_B


def _confidence(logits: Tensor) -> Tensor:
    if logits.ndim == 1 or logits.shape[1] == 1:
        yes_B = logits.float().reshape(-1).sigmoid()
        return torch.maximum(yes_B, 1 - yes_B)
    return logits.float().softmax(1).amax(1)


def _length(data: Iterable[Any]) -> int | None:
    try:
        return len(data.dataset)  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        return None  # the length of a list of batches is not the number of examples
