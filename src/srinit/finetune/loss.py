"""The loss of fine-tuning: the task's own, and what copies the teacher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srinit import modules
from srinit.finetune.records import Recipe

Loss = Callable[[Any, Any], Tensor]  # (output of the model, target) -> scalar


def task_loss(recipe: Recipe) -> Loss:
    """Return cross entropy over the classes (dimension 1), with label smoothing."""

    def loss(output: Any, target: Any) -> Tensor:
        logits = modules.logits_of(output)
        return F.cross_entropy(logits.float(), target, label_smoothing=recipe.label_smoothing)

    return loss


def distillation(student: Any, teacher: Any, temperature: float) -> Tensor:
    """Return how far the student's soft predictions are from the teacher's.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, equation 1 and section 2
    (the factor temperature squared), https://arxiv.org/abs/1503.02531
    """
    dimension = 1
    ours = F.log_softmax(modules.logits_of(student).float() / temperature, dimension)
    theirs = F.log_softmax(modules.logits_of(teacher).float() / temperature, dimension)
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2


def combined(
    output: Any, target: Any, inputs: Any, *, loss: Loss, teacher: nn.Module | None, recipe: Recipe
) -> Tensor:
    """Return the loss of one batch; without a teacher the task's alone."""
    own = loss(output, target)
    if teacher is None or recipe.distill_weight == 0:
        return own
    with torch.no_grad():
        guide = modules.call(teacher, inputs)
    weight = recipe.distill_weight
    return (1 - weight) * own + weight * distillation(output, guide, recipe.temperature)
