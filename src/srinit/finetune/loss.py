"""The loss of fine-tuning: the task's own, and what copies the teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srinit import modules
from srinit.evaluate.scorers import IGNORED, VOID
from srinit.finetune.features import feature_loss
from srinit.finetune.records import Recipe

Loss = Callable[[Any, Any], Tensor]  # (output of the model, target) -> scalar
# what the hooks of student and teacher find, and the names that belong together
Features = tuple[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, str]]


def task_loss(recipe: Recipe) -> Loss:
    """Return cross entropy with label smoothing, for every output that `predicted` reads.

    One logit an example (B,) or (B, 1) means yes above 0; (B, T, V) are tokens, each predicting
    the target at its own place, (B, C, H, W) are pixels; -100, and 255 in masks, are not scored.
    Detectors and the like need a loss of their own; for causal language models there is
    `next_token_loss`.

    Example:
        >>> loss = task_loss(Recipe())
        >>> round(float(loss(torch.tensor([[2.0], [-2.0]]), torch.tensor([1, 0]))), 4)
        0.1269
    """

    def loss(output: Any, target: Any) -> Tensor:
        logits = _classes_second(modules.logits_of(output))
        if logits.ndim == 4:  # pixels
            target = target.masked_fill(target == VOID, IGNORED)
        return F.cross_entropy(logits, target, label_smoothing=recipe.label_smoothing)

    return loss


def next_token_loss(recipe: Recipe) -> Loss:
    """Return cross entropy of causal language models: each place predicts the token after it."""
    at_own_place = task_loss(recipe)

    def loss(output: Any, target: Any) -> Tensor:
        return at_own_place(modules.logits_of(output)[:, :-1], target[:, 1:])

    return loss


def _classes_second(logits: Tensor) -> Tensor:
    """Return float logits with the classes in dimension 1; a single logit z becomes (0, z)."""
    logits = logits.float()
    if logits.ndim == 1:
        logits = logits.unsqueeze(1)
    if logits.ndim == 3:  # B T V
        logits = logits.movedim(2, 1)
    if logits.shape[1] == 1:
        return torch.cat([torch.zeros_like(logits), logits], dim=1)
    return logits


def distillation(student: Any, teacher: Any, temperature: float) -> Tensor:
    """Return how far the student's soft predictions are from the teacher's.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, equation 1 and section 2
    (the factor temperature squared), https://arxiv.org/abs/1503.02531
    """
    ours = F.log_softmax(_classes_second(modules.logits_of(student)) / temperature, 1)
    theirs = F.log_softmax(_classes_second(modules.logits_of(teacher)) / temperature, 1)
    divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
    return divergence.mean() * temperature**2  # over examples, and pixels or tokens


def combined(
    output: Any,
    target: Any,
    inputs: Any,
    *,
    loss: Loss,
    teacher: nn.Module | None,
    recipe: Recipe,
    features: Features | None = None,
) -> Tensor:
    """Return the loss of one batch; without a teacher the task's alone.

    The teacher runs once, for its predictions and its features.
    """
    own = loss(output, target)
    copies = recipe.feature_weight > 0 and features is not None
    if teacher is None or (recipe.distill_weight == 0 and not copies):
        return own
    with torch.no_grad():
        guide = modules.call(teacher, inputs)
    weight, total = recipe.distill_weight, own
    if weight > 0:
        total = (1 - weight) * own + weight * distillation(output, guide, recipe.temperature)
    distance = feature_loss(*features) if copies and features is not None else None
    return total if distance is None else total + recipe.feature_weight * distance
