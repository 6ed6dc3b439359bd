"""Averaged weights (EMA): what is a number is averaged, what is an index or a flag is copied."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of `model` whose parameters and float buffers become running means.

    Whole numbers and flags (positions, counters, masks) are those of the model at every step, and
    so is every entry that does not change: constants stay bit for bit, infinities too.

    Args:
        model: The network that is trained.
        decay: Share of the mean that stays at every step.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> model.register_buffer("index", torch.tensor([35]))
        >>> mean = averaged(model, 0.9)
        >>> for _ in range(3):
        ...     mean.update_parameters(model)
        >>> mean.module.index
        tensor([35])
    """

    @torch.no_grad()
    def update(means: Any, values: Any, _count: object) -> None:
        for mean, value in zip(means, values, strict=True):
            mean.copy_(_mean(mean, value, 1 - decay))

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


def _mean(mean: Tensor, value: Tensor, weight: float) -> Tensor:
    if not mean.is_floating_point() and not mean.is_complex():
        return value
    # Between two infinities (attention masks) a mean is NaN.
    return torch.where(mean == value, value, mean.lerp(value, weight))
