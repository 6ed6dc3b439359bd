"""Standard noise for draws: on the CPU draw by draw, on a GPU for blocks of draws."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from srinit.reinit.rules import Rule

NOISE_BYTES = 32 << 20  # numbers of draws that share a generator on a GPU
MOST_IN_BLOCK = 64
NOISE: dict[str, Callable[..., Tensor]] = {"normal": torch.randn, "uniform": torch.rand}


def noise_device(module: nn.Module) -> torch.device:
    """Return where noise for a module is made: its GPU, if it is on one, else the CPU."""
    devices = {parameter.device for parameter in module.parameters()}
    on_gpu = len(devices) == 1 and all(device.type == "cuda" for device in devices)
    return devices.pop() if on_gpu else torch.device("cpu")


def noise_of(
    shapes: Mapping[str, torch.Size],
    rules: Mapping[str, Rule],
    draws: Sequence[int],
    seed: Callable[[int], int],
    device: torch.device,
) -> dict[str, Tensor]:
    """Return standard noise for each draw; on a GPU for a block of draws at a time.

    What a draw holds depends on its number and its block's seed alone.
    """
    found = {name: torch.empty(len(draws), *shape, device=device) for name, shape in shapes.items()}
    if device.type == "cpu":
        for index, draw in enumerate(draws):
            noise = torch.Generator().manual_seed(seed(draw))
            for name, values in found.items():
                NOISE[rules[name].kind](shapes[name], generator=noise, out=values[index])
        return found
    values_a_draw = max(sum(shape.numel() for shape in shapes.values()), 1)
    block = min(max(NOISE_BYTES // (4 * values_a_draw), 1), MOST_IN_BLOCK)
    start = 0
    for number, equal in itertools.groupby(draws, lambda draw: draw // block):
        rows = [draw - number * block for draw in equal]
        noise = torch.Generator(device).manual_seed(seed(number * block))
        for name, values in found.items():
            make, shape = NOISE[rules[name].kind], (block, *shapes[name])
            if len(rows) == block:
                make(shape, generator=noise, out=values[start : start + block])
                continue
            fresh = make(shape, generator=noise, device=device)
            in_a_row = rows[-1] - rows[0] + 1 == len(rows)
            some = fresh[rows[0] : rows[-1] + 1] if in_a_row else fresh[rows]
            values[start : start + len(rows)] = some
        start += len(rows)
    return found


def spread(values: Tensor, rule: Rule, scale: float) -> None:
    """Give standard noise the spread and the mean of a rule, in place."""
    if rule.kind == "normal":
        values.mul_(rule.spread * scale)
    else:
        values.mul_(2 * rule.spread * scale).sub_(rule.spread * scale)
    if rule.mean:
        values.add_(rule.mean)
