"""The loss that belongs to a score: what is trained, and what gradients are taken of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from srinit import modules
from srinit.errors import ConfigError, DataError
from srinit.evaluate.reading import PartTask
from srinit.evaluate.scorers import NEXT_TOKEN, SCORERS, Scorer, unwrapped
from srinit.evaluate.targets import VOID, check_range, class_indices, num_classes
from srinit.padding import IGNORED

# B batch, C classes, T tokens, V vocabulary, H W space

Loss = Callable[[Any, Any], Tensor]  # (output of the model, target) -> scalar


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Cross entropy of whatever `predicted` reads; targets of -100, and 255 in masks, are left out.

    One logit an example (B,) or (B, 1) means yes above 0; (B, T, V) are tokens, (B, C, H, W) are
    pixels, enlarged to the masks as `image_iou` does. Targets are class indices, or for (B, C)
    probabilities of that shape. Where no place of a batch has a target the loss is 0.

    Attributes:
        shifted: Each place predicts the token after it, as causal language models do; else every
            place its own target.
        label_smoothing: Share of the target that is spread over all classes.

    Example:
        >>> loss = CrossEntropy()
        >>> round(float(loss(torch.tensor([[2.0], [-2.0]]), torch.tensor([1, 0]))), 4)
        0.1269
    """

    shifted: bool = False
    label_smoothing: float = 0.0

    def __call__(self, output: object, target: object) -> Tensor:
        """Return the mean over all places that have a target.

        Raises:
            DataError: The target does not fit the output.
        """
        logits, target = self._fitted(modules.logits_of(output), target)
        if not target.is_floating_point() and not bool((target != IGNORED).any()):
            return logits.sum() * 0
        return F.cross_entropy(
            _classes_second(logits), target, label_smoothing=self.label_smoothing
        )

    def places(self, output: object, target: object) -> Tensor | None:
        """Return which places of the output have a target (B,), (B, T) or (B, H, W).

        None where that cannot be said: targets that are no class indices leave out nothing.
        """
        logits = modules.logits_of(output)
        try:
            _, target = self._fitted(logits, target)
        except DataError:
            return None
        if target.is_floating_point():
            return None
        places: Tensor = target != IGNORED
        if self.shifted:  # the last place predicts nothing
            return F.pad(places, (0, 1))
        if logits.ndim == 4 and logits.shape[2:] != places.shape[1:]:
            size = logits.shape[2:]
            places = F.interpolate(places[:, None].float(), size=size, mode="nearest")[:, 0] > 0
        return places

    def _fitted(self, logits: Tensor, target: Any) -> tuple[Tensor, Tensor]:
        """Return logits and targets of the same places."""
        if self.shifted:
            if logits.ndim != 3 or not isinstance(target, Tensor) or target.ndim < 2:
                shape = tuple(target.shape) if isinstance(target, Tensor) else type(target).__name__
                raise DataError(
                    "the token after each place is predicted from logits (B, T, V) with targets "
                    f"(B, T), found {tuple(logits.shape)} and {shape}."
                )
            logits, target = logits[:, :-1], target[:, 1:]
        if _probabilities(logits, target):
            return logits, target.to(logits.device, torch.float32)
        indices = class_indices(logits, target)
        if logits.ndim == 4:
            indices = indices.masked_fill(indices == VOID, IGNORED)
            if logits.shape[2:] != indices.shape[1:]:
                logits = F.interpolate(logits.float(), size=indices.shape[1:], mode="bilinear")
        counted = indices[indices != IGNORED]
        if counted.numel():
            check_range(int(counted.min()), int(counted.max()), num_classes(logits))
        return logits, indices


def _probabilities(logits: Tensor, target: object) -> bool:
    """Return whether targets are a distribution over the classes for each example."""
    if logits.ndim != 2 or logits.shape[1] < 2 or not isinstance(target, Tensor):
        return False
    if not target.is_floating_point() or target.shape != logits.shape:
        return False
    sums = target.float().sum(1)
    return bool((target >= 0).all()) and bool((sums - 1).abs().max() < 1e-3)


def _classes_second(logits: Tensor) -> Tensor:
    """Return float logits with the classes in dimension 1; a single logit z becomes (0, z)."""
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    if logits.ndim == 1:
        logits = logits.unsqueeze(1)
    if logits.ndim == 3:  # B T V
        logits = logits.movedim(2, 1)
    if logits.shape[1] == 1:
        return torch.cat([torch.zeros_like(logits), logits], dim=1)
    return logits


def distillation(
    student: object,
    teacher: object,
    temperature: float,
    counted: Tensor | None = None,
    top: int | None = None,
) -> Tensor:
    """Return how far the student's soft predictions are from the teacher's.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, equation 1 and section 2
    (the factor temperature squared), https://arxiv.org/abs/1503.02531

    Args:
        student: Output.
        teacher: Output of the same shape.
        temperature: Of both.
        counted: Which examples, tokens or pixels count; None: all.
        top: Of the teacher's classes only the so many likeliest are told apart; the others count
            as one, which has the rest of the probability.
    """
    ours = F.log_softmax(_classes_second(modules.logits_of(student)) / temperature, 1)
    theirs = F.log_softmax(_classes_second(modules.logits_of(teacher)) / temperature, 1)
    if top is not None and top < theirs.shape[1]:
        theirs, places = theirs.topk(top, 1)
        ours, theirs = (_with_rest(each) for each in (ours.gather(1, places), theirs))
    divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
    if counted is not None and not bool(counted.all()):
        divergence = divergence[counted] if bool(counted.any()) else divergence * 0
    return divergence.mean() * temperature**2  # over examples, and pixels or tokens


def _with_rest(logs: Tensor) -> Tensor:
    """Return log probabilities of some classes with that of all others behind them."""
    least = torch.finfo(logs.dtype).eps
    rest = (1 - logs.exp().sum(1, keepdim=True)).clamp_min(least).log()
    return torch.cat([logs, rest], 1)


def loss_for(scorer: Scorer, *, label_smoothing: float = 0.0) -> Loss:
    """Return the loss that a score is trained with.

    Next tokens are scored at the place before them, so that the loss is shifted; all other scores
    of `SCORERS` compare every place with its own target.

    Raises:
        ConfigError: The score is your own: what it asks for is not known.

    Example:
        >>> from srinit.evaluate import next_token_accuracy, top1
        >>> loss_for(next_token_accuracy) == CrossEntropy(shifted=True), loss_for(top1)
        (True, CrossEntropy(shifted=False, label_smoothing=0.0))
    """
    inner = unwrapped(scorer)
    if isinstance(inner, PartTask):
        own: Loss = inner.loss(label_smoothing)
        return own
    known = _known(scorer)
    if known is None:
        name = getattr(scorer, "__name__", type(scorer).__name__)
        raise ConfigError(
            f"the loss that belongs to the score {name} is not known: give loss= (in a config "
            "finetune.loss), your own (output, target) -> scalar, or one of "
            f"srinit.evaluate.LOSSES: {', '.join(LOSSES)}."
        )
    return CrossEntropy(shifted=known in NEXT_TOKEN, label_smoothing=label_smoothing)


def _known(scorer: object) -> Scorer | None:
    inner = unwrapped(scorer)
    return next((each for each in SCORERS.values() if each is inner), None)


LOSSES: dict[str, CrossEntropy] = {
    "cross_entropy": CrossEntropy(),
    "next_token": CrossEntropy(shifted=True),
}
"""Losses by name: each place predicts its own target, or the token after it."""


def places_of(scorer: Scorer) -> CrossEntropy:
    """Return the cross entropy whose places those of a score are; for your own the usual ones."""
    return CrossEntropy(shifted=_known(scorer) in NEXT_TOKEN)


def checked(loss: Loss, *, finite: bool = True) -> Loss:
    """Return a loss whose values are looked at.

    Args:
        loss: Any.
        finite: Refuse NaN and infinity too.

    Raises:
        ConfigError: The loss returns something else than a tensor of one number, or one that no
            gradient can be taken of.
        DataError: It returns NaN or infinity.
    """
    name = getattr(loss, "__name__", type(loss).__name__)

    def looked_at(output: object, target: object) -> Tensor:
        value = loss(output, target)
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = f"{tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(f"the loss {name} should return one number as a tensor, not {found}.")
        if torch.is_grad_enabled() and not value.requires_grad:
            raise ConfigError(
                f"the loss {name} gives no gradient: it does not depend on what is trained, or "
                "was computed from a detached output."
            )
        if finite and not math.isfinite(float(value.detach())):
            raise DataError(
                f"the loss {name} is {float(value.detach())} on a batch, and so is every gradient. "
                "Look for NaN or infinity in the examples and in the network's outputs."
            )
        return value.reshape(())

    return looked_at
