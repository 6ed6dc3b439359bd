"""The optimizer of a recipe."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from srinit.finetune.records import Recipe


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the optimizer; norms and biases (fewer than two dimensions) do not decay."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.peak_lr)
    return torch.optim.SGD(groups, lr=recipe.peak_lr, momentum=0.9, nesterov=True)
