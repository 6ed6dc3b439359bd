"""Per-example outcomes of a model over a loader: never only a mean; paired tests need more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from srinit import modules
from srinit.errors import ConfigError, DataError
from srinit.evaluate.batch_splitter import BatchSplitter
from srinit.evaluate.batches import batches_of
from srinit.evaluate.outcomes import Outcomes
from srinit.evaluate.reading import PartTask
from srinit.evaluate.scorers import (
    NEXT_TOKEN,
    SCORERS,
    Scorer,
    next_token_losses,
    predicted,
    top1,
    unwrapped,
)
from srinit.evaluate.targets import check_range, num_classes

# B batch, C classes

Progress = Callable[[int, int | None], None]  # examples done, examples in all (if known)
"""Called after every batch; the command line draws it."""

Part = Outcomes
WRONG = (("predictions", -1), ("confidence", 0.0))  # of an output that is not finite


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
        data: Iterable of batches: `(inputs, target)`, or dicts with `labels`.
        scorer: Per-example score in [0, 1]; see `SCORERS`.
        device: Where the inputs go; by default to the device of the model's first parameter.
        on_progress: Called with (examples done, examples in all or None).

    Raises:
        DataError: There was no example, or the target does not fit the output.
        ResourceError: Not even one example fits into memory.
        ConfigError: The scorer returned something else than scores in [0, 1].

    Example:
        >>> model = nn.Linear(2, 2, bias=False)
        >>> _ = model.requires_grad_(False).weight.copy_(torch.eye(2))
        >>> data = [(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))]
        >>> evaluate(model, data).scores.tolist()
        [1.0, 0.0]
    """
    place = modules.device_of(model) if device is None else torch.device(device)
    total = _length(data)
    parts: list[Outcomes] = []
    done, pieces = 0, BatchSplitter(place)

    def outcome(piece: tuple[Any, Any]) -> Outcomes:
        inputs, target = piece
        return outcome_of(modules.call(model, modules.to_device(inputs, place)), target, scorer)

    with modules.untouched(model), torch.inference_mode():
        for inputs, target in batches_of(data, model):
            found = pieces.run(outcome, (inputs, target))
            parts += found
            done += sum(part.num_examples for part in found)
            if on_progress is not None:
                on_progress(done, total)
    if done == 0:
        raise DataError("the data holds no example; nothing can be measured on it.")
    return joined(parts)


def joined(parts: Sequence[Outcomes]) -> Outcomes:
    """Return the outcomes of several batches, in their order."""
    names = [field.name for field in fields(Outcomes)]
    return Outcomes(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


def outcome_of(
    output: object,
    target: object,
    scorer: Scorer,
    *,
    within: Tensor | None = None,
    confidence: bool = True,
) -> Outcomes:
    """Return the outcomes of a batch from what a model returned for it.

    Args:
        output: Of the model.
        target: Of the batch.
        scorer: Per-example score in [0, 1].
        within: Whether what the model computed on the way was finite (B,).
        confidence: Whether the probability of the prediction, or the loss of tokens, is wanted.

    Raises:
        DataError: The target does not fit the output.
        ConfigError: The scorer returned something else than scores (B,) in [0, 1].
    """
    logits = modules.logits_of(output)
    finite_B = torch.isfinite(logits).reshape(len(logits), -1).all(1)
    if within is not None and within.shape == finite_B.shape:
        finite_B = finite_B & within.to(finite_B.device)
    columns = {"scores": _shaped(scorer(output, target), finite_B, scorer), "finite": finite_B}
    inner = unwrapped(scorer)
    reading = inner.read(output, target) if confidence and isinstance(inner, PartTask) else None
    is_task = isinstance(inner, PartTask)
    classes_B = None if is_task else classes_of(logits, target, scorer)
    if classes_B is not None:
        columns |= {"targets": classes_B, "predictions": predicted(logits)}
        columns |= {"confidence": _confidence(logits)} if confidence else {}
    if confidence and unwrapped(scorer) in NEXT_TOKEN:
        columns |= dict(zip(("losses", "tokens"), next_token_losses(output, target), strict=True))
    # all at once, as every look at a GPU's numbers waits for it
    kind = torch.float32 if logits.device.type == "mps" else torch.float64
    table = torch.stack([column.to(logits.device, kind) for column in columns.values()])
    found = dict(zip(columns, table.cpu().double().numpy(), strict=True))
    finite, targets = found["finite"] > 0, found.get("targets", np.empty(0))
    scores = _checked(np.where(finite, found["scores"], 0.0), scorer)
    if len(targets):
        check_range(int(targets.min()), int(targets.max()), num_classes(logits))
    if reading is not None:
        found |= {name: getattr(reading, name) for name in ("targets", "predictions", "confidence")}
        targets = reading.targets
    answers = {key: np.where(finite, found[key], wrong) for key, wrong in WRONG if key in found}
    return Outcomes(
        scores=scores,
        finite=finite,
        targets=targets.astype(np.int64),
        predictions=answers.get("predictions", np.empty(0)).astype(np.int64),
        confidence=answers.get("confidence", np.empty(0)),
        losses=found.get("losses", np.empty(0)),
        tokens=found.get("tokens", np.empty(0)).astype(np.int64),
        counts=np.empty(0) if reading is None else reading.counts,
        evidence=np.empty(0) if reading is None else reading.evidence,
    )


def classes_of(logits: Tensor, target: object, scorer: Scorer) -> Tensor | None:
    """Return the class index of every example, where one is chosen; else None.

    Targets (B,) of whole numbers are classes; other numbers are so for scores that know no else.

    Args:
        logits: Of the model.
        target: Of the batch.
        scorer: What they are scored by; your own may score other things than classes.
    """
    if logits.ndim > 2 or not isinstance(target, Tensor):
        return None
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    if target.shape != logits.shape[:1]:
        return None
    if target.is_floating_point() and scorer not in SCORERS.values():
        return None
    classes: Tensor = target.long()
    return classes


def _shaped(scores: object, finite: Tensor, scorer: Scorer) -> Tensor:
    if not isinstance(scores, Tensor) or scores.shape != finite.shape:
        found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ConfigError(
            f"the scorer {_name(scorer)} should return a tensor ({len(finite)},), found {found}."
        )
    return scores.detach()


def _checked(scores: npt.NDArray[np.float64], scorer: Scorer) -> npt.NDArray[np.float64]:
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ConfigError(
            f"the scorer {_name(scorer)} should return scores in [0, 1], found "
            f"{scores.min():g} to {scores.max():g}."
        )
    return scores


def _name(scorer: Scorer) -> str:
    return getattr(scorer, "__name__", type(scorer).__name__)


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
