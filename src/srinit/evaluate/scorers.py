"""Per-example scores in [0, 1], so that every interval holds for any task scored that way.

An example whose output holds NaN or infinity scores 0 whatever the scorer says.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from srinit import modules
from srinit.errors import DataError, ModelError
from srinit.evaluate.targets import VOID, class_indices
from srinit.padding import IGNORED

# B batch, C classes, T tokens, V vocabulary, H W space

HIDDEN = {"last_hidden_state", "pooler_output"}  # names of transformers' outputs without a head


class Scorer(Protocol):
    """A per-example score in [0, 1]; 1 is right. Differences of scores are what is measured."""

    def __call__(self, output: object, target: object) -> Tensor:
        """Return scores of shape (B,), from a model's output and the target of a batch."""
        ...


def predicted(logits: Tensor) -> Tensor:
    """Return the class of every example, pixel or token; a single logit is a yes above 0.

    Args:
        logits: (B,), (B, C), (B, T, V) or (B, C, H, W).
    """
    if logits.ndim == 1:
        return (logits > 0).long()
    dim = 2 if logits.ndim == 3 else 1
    if logits.shape[dim] == 1:
        return (logits > 0).long().squeeze(dim)
    return logits.argmax(dim)


def scored(output: object, score: str) -> Tensor:
    """Return the predictions in a network's output; hidden states are none.

    Args:
        output: Of the network.
        score: What they are wanted for, for the message.

    Raises:
        ModelError: The network has no head: it returns hidden states.
    """
    named = set(output) if isinstance(output, Mapping) else set(getattr(output, "__dict__", ()))
    if named & HIDDEN and not named & {"logits", "out"}:
        raise ModelError(
            f"{score} needs predictions, and the network returns hidden states "
            f"({type(output).__name__}: {', '.join(sorted(named))}): it has no head. Take the "
            "class that was trained with one (model.args.auto: AutoModelForCausalLM, "
            "AutoModelForImageClassification, ...), or a score of your own (py:FILE.py:FUNCTION)."
        )
    return modules.logits_of(output)


def top1(output: object, target: object) -> Tensor:
    """Return 1.0 where the most likely class is the target; non-finite outputs count as wrong.

    Raises:
        ModelError: The network returns hidden states.
        DataError: The output is not (B, C), (B, 1) or (B,), or the target no class index (B,).

    Example:
        >>> top1(torch.tensor([[0.1, 0.9], [float("nan"), 0.0]]), torch.tensor([1, 1]))
        tensor([1., 0.])
    """
    logits = scored(output, "top1")
    if logits.ndim > 2:
        raise DataError(
            f"top1 scores one class an example, from class scores (B, C), found "
            f"{tuple(logits.shape)}. Other scores: {', '.join(SCORERS)}, py:FILE.py:FUNCTION."
        )
    finite_B = torch.isfinite(logits).reshape(len(logits), -1).all(1)
    right_B: Tensor = (predicted(logits) == class_indices(logits, target)) & finite_B
    return right_B.float()


def token_accuracy(output: object, target: object) -> Tensor:
    """Return the share of right tokens of every example; targets of -100 are not scored.

    For masked language models and token classification: the logit at a place predicts the token
    of that place.

    Raises:
        DataError: Shapes differ, or an example has no scored token.

    Example:
        >>> logits = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])
        >>> token_accuracy(logits, torch.tensor([[1, 1, -100]]))
        tensor([0.5000])
    """
    return _token_accuracy(scored(output, "token_accuracy"), target)


def next_token_accuracy(output: object, target: Any) -> Tensor:
    """Return the share of tokens of every example that the places before them predict.

    For causal language models: `target` holds the input tokens, -100 where not scored.

    Raises:
        DataError: Shapes differ, or an example has no scored token.
    """
    logits = scored(output, "next_token_accuracy")
    _check_tokens(logits, target)
    return _token_accuracy(logits[:, :-1], target[:, 1:])


def next_token_probability(output: object, target: Any) -> Tensor:
    """Return the mean probability that the places before them give to an example's tokens.

    For causal language models: `target` holds the input tokens, -100 where not scored. Tells
    networks apart on fewer examples than right or wrong does.

    Raises:
        DataError: Shapes differ, or an example has no scored token.

    Example:
        >>> logits = torch.tensor([[[0.0, 0.0], [9.0, 9.0], [1.0, 0.0]]])
        >>> next_token_probability(logits, torch.tensor([[0, 1, 1]]))
        tensor([0.5000])
    """
    losses_B, counts_B = next_token_losses(output, target, lambda loss: loss.neg().exp())
    if bool((counts_B == 0).any()):
        raise DataError("an example has no scored token: every target is -100.")
    return (losses_B / counts_B).clamp(0, 1)  # a mean of rounded numbers may lie above 1


def next_token_losses(
    output: object, target: Any, of: Callable[[Tensor], Tensor] = lambda loss: loss
) -> tuple[Tensor, Tensor]:
    """Return the summed loss (negative log probability) of every example's tokens, and how many.

    Args:
        output: Of a causal language model.
        target: Its input tokens (B, T), -100 where not scored.
        of: What is summed of the loss of a token.

    Raises:
        DataError: Shapes differ.
    """
    logits = scored(output, "next_token_probability")
    _check_tokens(logits, target)
    target_BT = class_indices(logits, target)[:, 1:]
    sums = []
    for row, wanted in zip(logits[:, :-1], target_BT, strict=True):  # one at a time: V is large
        known = wanted != IGNORED
        loss = F.cross_entropy(row[known].float(), wanted[known], reduction="none")
        sums.append(of(loss).sum())
    return torch.stack(sums), (target_BT != IGNORED).sum(1)


def _check_tokens(logits: Tensor, target: object) -> None:
    if logits.ndim != 3 or not isinstance(target, Tensor) or logits.shape[:2] != target.shape[:2]:
        raise DataError(
            f"token scores need logits (B, T, V) and targets (B, T), found "
            f"{tuple(logits.shape)} and {_shape(target)}."
        )
    known = target.numel() > 0 and target.device.type == "cpu"  # a look at a GPU's numbers waits
    is_index = not target.is_floating_point() and target.ndim == 2
    if known and is_index and int(target.max()) >= logits.shape[2] > 1:
        raise DataError(
            f"the data has the token or class {int(target.max())}, but the network has "
            f"{logits.shape[2]} outputs a place: these are other tokens, or another network."
        )


def _token_accuracy(logits: Tensor, target: object) -> Tensor:
    _check_tokens(logits, target)
    target_BT = class_indices(logits, target)
    scored_BT = target_BT != IGNORED
    count_B = scored_BT.sum(1)
    if bool((count_B == 0).any()):
        raise DataError("an example has no scored token: every target is -100.")
    right_BT = (predicted(logits) == target_BT) & scored_BT
    return right_BT.sum(1).float() / count_B


def image_iou(output: object, target: object) -> Tensor:
    """Return, for every image, the mean over its classes of intersection over union.

    The classes of an image are those in its target or its prediction. Pixels whose target is 255
    or -100 are not scored. Logits of lower resolution are enlarged to the target's, bilinearly.
    Source: the Jaccard index, https://arxiv.org/abs/1405.0312 and Pascal VOC.

    Raises:
        DataError: Logits are not (B, C, H, W) or targets not (B, H, W).

    Example:
        >>> logits = torch.tensor([[[[0.0, 0.0, 0.0, 0.0]], [[1.0, 1.0, -1.0, -1.0]]]])
        >>> image_iou(logits, torch.tensor([[[1, 0, 0, 255]]]))
        tensor([0.5000])
    """
    logits = scored(output, "image_iou")
    masks = isinstance(target, Tensor) and target.ndim in (3, 4) and len(logits) == len(target)
    if logits.ndim != 4 or not masks:
        raise DataError(
            f"IoU needs logits (B, C, H, W) and targets (B, H, W), found "
            f"{tuple(logits.shape)} and {_shape(target)}."
        )
    target = class_indices(logits, target)
    if logits.shape[2:] != target.shape[1:]:
        logits = F.interpolate(logits.float(), size=target.shape[1:], mode="bilinear")
    return torch.stack(list(map(_iou, predicted(logits), target)))


def _iou(guess: Tensor, target: Tensor) -> Tensor:
    scored = (target != VOID) & (target != IGNORED)
    found, wanted = guess[scored], target[scored]
    if wanted.numel() == 0:
        raise DataError("an image has no scored pixel: every target is 255 or -100.")
    size = int(max(found.max(), wanted.max())) + 1
    both = torch.bincount(wanted[found == wanted], minlength=size)
    either = torch.bincount(found, minlength=size) + torch.bincount(wanted, minlength=size) - both
    present = either > 0
    return (both[present].double() / either[present].double()).mean().float()


def agreement(output: object, target: Any) -> Tensor:
    """Return the share of equal predictions of every example, given the other model's.

    `target` is what `labeled_by(reference, data)` serves: classes (B,), (B, T) or (B, H, W); those
    of -100 are not scored. The score needs no labels.

    Raises:
        DataError: Every target of an example is -100.
    """
    logits = scored(output, "agreement")
    finite_B = torch.isfinite(logits).reshape(len(logits), -1).all(1)
    guess = predicted(logits)
    if _shape(target) != _shape(guess):
        raise DataError(
            f"agreement compares classes {_shape(guess)} with those of the other model, found "
            f"{_shape(target)}; give labeled_by(reference, data)."
        )
    target = target.to(logits.device).reshape(len(target), -1)
    equal, known = guess.reshape(len(target), -1) == target, target != IGNORED
    count_B = known.sum(1)
    if bool((count_B == 0).any()):
        raise DataError("an example has no scored place: every target is -100.")
    share_B: Tensor = (equal & known).sum(1).float() / count_B
    return share_B * finite_B


def _shape(target: object) -> tuple[int, ...] | str:
    return tuple(target.shape) if isinstance(target, Tensor) else type(target).__name__


def unwrapped(scorer: object) -> object:
    """Return the function inside of partial ones."""
    while isinstance(scorer, functools.partial):
        scorer = scorer.func
    return scorer


NEXT_TOKEN = (next_token_accuracy, next_token_probability)
"""Scores of causal language models: the place before a token predicts it."""

SCORERS: dict[str, Scorer] = {
    "top1": top1,
    "token_accuracy": token_accuracy,
    "next_token_accuracy": next_token_accuracy,
    "next_token_probability": next_token_probability,
    "image_iou": image_iou,
    "agreement": agreement,
}
