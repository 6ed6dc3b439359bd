"""Criteria that look at weights, and the two that look at nothing."""

from __future__ import annotations

import random as _random
from collections.abc import Mapping

from torch import nn

from srinit.criteria.options import Batches, Options
from srinit.criteria.records import UnitScore
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
