"""Batch normalization with the statistics of new weights, computing what it did before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from srinit import modules

LEAST_RATIO = 1e-3  # of new to old variance (and back) beyond which a channel is left as it is


def with_new_statistics(model: nn.Module, batches: Iterable[Any]) -> int:
    """Give normalizations the statistics of what reaches them, in place; the function stays.

    `weight` and `bias` take up the difference, so that evaluation gives the same as before (to
    rounding) while training, which normalizes by the batch, begins from the same function.

    Args:
        model: A network of ours.
        batches: Inputs without targets.

    Returns:
        How many normalizations were given new statistics.
    """
    norms = [
        m
        for m in model.modules()
        if isinstance(m, _BatchNorm) and m.track_running_stats and m.affine
    ]
    sums: dict[nn.Module, list[Tensor]] = {}
    counts: dict[nn.Module, int] = {}

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        x = args[0].detach().double()
        others = [d for d in range(x.ndim) if d != 1]
        found = [x.sum(others), x.pow(2).sum(others)]
        known = sums.get(module)
        sums[module] = (
            found if known is None else [a + b for a, b in zip(known, found, strict=True)]
        )
        counts[module] = counts.get(module, 0) + x.numel() // x.shape[1]

    handles = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        device = modules.device_of(model)
        with modules.eval_mode(model), torch.no_grad():
            for batch in batches:
                modules.call(model, modules.to_device(batch, device))
    finally:
        for handle in handles:
            handle.remove()
    for norm in sums:
        _moved(norm, sums[norm], counts[norm])
    return len(sums)


def _moved(norm: Any, found: list[Tensor], count: int) -> None:
    if count < 2:
        return
    mean = found[0] / count
    variance = (found[1] / count - mean.pow(2)).clamp(min=0) * (count / (count - 1))
    old_mean, old = norm.running_mean.double(), norm.running_var.double()
    ratio = (variance + norm.eps) / (old + norm.eps)
    is_fit = (ratio > LEAST_RATIO) & (ratio < 1 / LEAST_RATIO) & torch.isfinite(mean)
    slope = norm.weight.double() * (old + norm.eps).rsqrt()
    with torch.no_grad():
        weight = torch.where(is_fit, slope * (variance + norm.eps).sqrt(), norm.weight.double())
        bias = torch.where(
            is_fit, norm.bias.double() + slope * (mean - old_mean), norm.bias.double()
        )
        norm.weight.copy_(weight)
        norm.bias.copy_(bias)
        norm.running_mean.copy_(torch.where(is_fit, mean, old_mean))
        norm.running_var.copy_(torch.where(is_fit, variance, old))
