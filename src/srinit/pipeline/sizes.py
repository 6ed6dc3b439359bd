"""How much a config will remove, and in how many stages, before anything is measured."""

from __future__ import annotations

import math

from srinit.config import Config


def num_removed(config: Config, num_units: int) -> int:
    """Return about how many units a plan will remove; all that there are if that is not known.

    A share of FLOPs, parameters or time is taken for the same share of the units.
    """
    settings = config.plan
    targets = (settings.flops, settings.params, settings.latency)
    shares = [1 - target for target in targets if target is not None]
    if shares:
        return min(max(math.ceil(max(shares) * num_units - 1e-9), len(settings.remove)), num_units)
    return num_units if settings.max_drop is not None else min(len(settings.remove), num_units)


def num_stages(config: Config, removed: int, num_units: int) -> int:
    """Return in how many stages so many units will go."""
    settings = config.prune
    if settings.step.units is not None:
        return max(math.ceil(removed / settings.step.units), 1)
    share = settings.step.flops or settings.step.params
    if share is not None:
        return max(math.ceil(removed / num_units / share), 1) if num_units else 1
    return settings.stages
