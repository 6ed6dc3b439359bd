"""Estimates normalization statistics again, right after a cut."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from srinit import modules


def recalibrate(
    model: nn.Module,
    data: Iterable[tuple[Any, Any]],
    *,
    device: torch.device | str | None = None,
) -> bool:
    """Re-estimate the running statistics of batch normalization in `model`, in place.

    Every statistic becomes the plain average over the batches of `data`. Weights do not change;
    other modules stay in evaluation mode. Train flags and momenta are restored.

    Args:
        model: The network after the cut; our copy, not the caller's original.
        data: Batches `(inputs, target)`; the targets are not used.
        device: Where the inputs go; by default to the device of the model.

    Returns:
        False where there is nothing to estimate; the model is untouched then.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return False
    place = modules.device_of(model) if device is None else device
    momenta = [norm.momentum for norm in norms]
    with modules.eval_mode(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # cumulative average
            norm.training = True
        try:
            with torch.no_grad():
                for inputs, _ in data:
                    if modules.batch_size(inputs) > 1:
                        modules.call(model, modules.to_device(inputs, place))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    return True
