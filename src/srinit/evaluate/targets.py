"""Targets as class indices: one for every example, token or pixel that a network answers for."""

from __future__ import annotations

import torch
from torch import Tensor

from srinit.errors import DataError

# B batch, C classes, T tokens, V vocabulary, H W space

VOID = 255  # the same in segmentation masks, as in Pascal VOC


def class_indices(logits: Tensor, target: object) -> Tensor:
    """Return targets as whole numbers, on the device of the logits: what `predicted` returns.

    Whole numbers of any type are taken, and so is a further dimension of size 1: (B, 1) for (B,),
    (B, T, 1) for (B, T), (B, 1, H, W) for (B, H, W).

    Args:
        logits: (B,), (B, C), (B, T, V) or (B, C, H, W).
        target: (B,), (B, T) or (B, H', W').

    Raises:
        DataError: The target is no such tensor; what was found is said.

    Example:
        >>> class_indices(torch.zeros(2, 3), torch.tensor([[1.0], [2.0]]))
        tensor([1, 2])
    """
    if not isinstance(target, Tensor):
        raise DataError(
            "the batches hold no target: give (inputs, target), or a dict with labels."
            if target is None
            else f"a target should be a tensor of class indices, found {type(target).__name__}."
        )
    if not 1 <= logits.ndim <= 4:
        raise DataError(
            "classes are read from logits (B,), (B, C), (B, T, V) or (B, C, H, W), found "
            f"{tuple(logits.shape)}; give a scorer and a loss of your own."
        )
    extra = 1 if logits.ndim == 4 else -1
    dims = max(1, logits.ndim - 1)
    found = target
    if found.ndim == dims + 1 and found.shape[extra] == 1:
        found = found.squeeze(extra)
    free = 1 if logits.ndim == 4 else dims  # masks may be finer than the logits
    if found.ndim != dims or found.shape[:free] != logits.shape[:free]:
        raise DataError(_misfit(logits, target))
    if found.is_floating_point():
        whole = found.round()
        if not bool((found == whole).all()):
            raise DataError(
                f"a target should be a class index, found {target.dtype} that is no whole number; "
                "where it is no class, give a scorer and a loss of your own."
            )
        found = whole
    return found.to(logits.device, torch.long)


def _misfit(logits: Tensor, target: Tensor) -> str:
    if logits.ndim == 2 and target.shape == logits.shape:
        return (
            f"the target holds {target.shape[1]} values an example, as one-hot and soft labels do; "
            "a class index (B,) is needed. Give target.argmax(1), or a scorer and a loss of your "
            "own."
        )
    wanted = {1: "(B,)", 2: "(B,)", 3: "(B, T)", 4: "(B, H, W)"}[logits.ndim]
    return (
        f"the target does not fit the output: for logits {tuple(logits.shape)} a class index "
        f"{wanted} is needed, found {tuple(target.shape)}."
    )


def check_range(lowest: int, highest: int, num_classes: int) -> None:
    """Raise `DataError` where a class index is none of the model's.

    Args:
        lowest: The smallest target that is scored.
        highest: The largest.
        num_classes: Of the model; a single logit stands for two.
    """
    if lowest < 0:
        raise DataError(
            f"the data holds unlabeled examples (target {lowest}); score them by agreement with "
            "another model: evaluate(model, labeled_by(reference, data), scorer=agreement)."
        )
    if highest >= num_classes:
        raise DataError(
            f"the data has class index {highest}, but the model has {num_classes} outputs "
            f"(0 to {num_classes - 1})."
        )


def num_classes(logits: Tensor) -> int:
    """Return how many classes logits tell apart; a single one says yes or no."""
    return max(2, 1 if logits.ndim == 1 else logits.shape[2 if logits.ndim == 3 else 1])
