"""Batch normalization with the statistics of new weights, computing what it did before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from srinit import modules
from srinit.sensitivity import Ranks

LEAST_RATIO = 1e-3  # of new to old variance (and back) beyond which a channel is left as it is


def with_new_statistics(
    model: nn.Module, batches: Sequence[Any], ranks: Ranks | None = None
) -> int:
    """Give normalizations the statistics of what reaches them, in place; the function stays.

    `weight` and `bias` take up the difference, so that evaluation gives the same as before (to
    rounding) while training, which normalizes by the batch, begins from the same function.

    Args:
        model: A network of ours.
        batches: Inputs without targets.
        ranks: Processes that share the batches; all must call this, with all of them.

    Returns:
        How many normalizations were given new statistics.
    """
    norms = [
        m
        for m in model.modules()
        if isinstance(m, _BatchNorm) and m.track_running_stats and m.affine
    ]
    ranks, device = ranks or Ranks(alone=True), modules.device_of(model)
    places: dict[nn.Module, slice] = {}
    size = 0
    for norm in norms:  # sum, sum of squares and count of each
        places[norm] = slice(size, size := size + 2 * norm.num_features + 1)
    sums: dict[int, Tensor] = {}

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        x = args[0].detach().double()
        others = [d for d in range(x.ndim) if d != 1]
        count = x.new_tensor([x.numel() // x.shape[1]])
        sums[number][places[module]] += torch.cat([x.sum(others), x.pow(2).sum(others), count])

    handles = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        with modules.eval_mode(model), torch.no_grad():
            for number, batch in ranks.mine(batches):
                sums[number] = torch.zeros(size, dtype=torch.float64, device=device)
                modules.call(model, modules.to_device(batch, device))
    finally:
        for handle in handles:
            handle.remove()
    if not norms:
        return 0
    whole = torch.stack(ranks.in_order(sums, size, len(batches))).sum(0).to(device)
    return sum(_moved(norm, whole[place]) for norm, place in places.items())


def _moved(norm: Any, sums: Tensor) -> bool:
    """Move a normalization to its statistics; return whether anything reached it."""
    found, count = sums[:-1].chunk(2), float(sums[-1])
    if count < 2:
        return count > 0
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
    return True
