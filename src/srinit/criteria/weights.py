"""Criteria that look at weights and gradients, and the two that look at nothing."""

from __future__ import annotations

import random as _random
from collections.abc import Mapping

import torch
from torch import nn

from srinit import modules
from srinit.criteria.options import Batches, Options
from srinit.criteria.records import UnitScore
from srinit.evaluate import loss_for
from srinit.evaluate.losses import checked
from srinit.rng import seed_for
from srinit.units.records import Unit, UnitMap


def l1(
    model: nn.Module, units: UnitMap, data: Batches, options: Options
) -> Mapping[str, float | UnitScore | None]:
    """Return the mean absolute weight of each unit.

    Source: Li et al., Pruning Filters for Efficient ConvNets, section 3.1 (there summed over a
    filter), https://arxiv.org/abs/1608.08710.
    """
    found: dict[str, float | UnitScore | None] = {}
    for unit in units:
        weights = parameters_of(model, unit)
        count = sum(weight.numel() for weight in weights)
        total = sum(float(weight.detach().double().abs().sum()) for weight in weights)
        found[unit.name] = total / count if count else None
    return found


def taylor(
    model: nn.Module, units: UnitMap, data: Batches, options: Options
) -> Mapping[str, float | UnitScore | None]:
    """Return the sum over each unit's weights of |gradient x weight|, the mean over batches.

    Source: Molchanov et al., Importance Estimation for Neural Network Pruning, equation 8 with
    absolute values, https://arxiv.org/abs/1906.10771.
    """
    model.requires_grad_(True)
    groups = {unit.name: parameters_of(model, unit) for unit in units}
    flat = [weight for weights in groups.values() for weight in weights]
    totals = dict.fromkeys(groups, 0.0)
    loss = checked(options.loss or loss_for(options.scorer))
    count = 0
    for inputs, target in data:
        inputs, target = modules.to_device((inputs, target), options.device)
        with torch.enable_grad():
            value = loss(modules.call(model, inputs), target)
            slopes = iter(torch.autograd.grad(value, flat, allow_unused=True))
        for name, weights in groups.items():
            for weight, slope in [(weight, next(slopes)) for weight in weights]:
                if slope is not None:
                    totals[name] += float((slope * weight.detach()).abs().double().sum())
        count += 1
        if options.on_progress is not None:
            options.on_progress(count, len(data), "Taylor")
    return {name: total / count for name, total in totals.items()}


def position(
    model: nn.Module, units: UnitMap, data: Batches, options: Options
) -> Mapping[str, float | UnitScore | None]:
    """Return minus the place in order of execution: the last goes first."""
    return {unit.name: -float(unit.position) for unit in units}


def random(
    model: nn.Module, units: UnitMap, data: Batches, options: Options
) -> Mapping[str, float | UnitScore | None]:
    """Return random numbers in [0, 1), which depend on the seed and the unit's name alone."""
    return {
        unit.name: _random.Random(seed_for("criterion", options.seed, unit.name)).random()
        for unit in units
    }


def parameters_of(model: nn.Module, unit: Unit) -> list[nn.Parameter]:
    """Return the parameters that leave with a unit."""
    found = dict.fromkeys(
        parameter
        for name in unit.parts or (unit.name,)
        for parameter in model.get_submodule(name).parameters()
    )
    return list(found)
