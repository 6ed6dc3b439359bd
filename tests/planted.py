"""Networks whose drops are known without measuring, and hand-made maps of their units."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from srinit.modules import count_params
from srinit.units.records import LockedUnit, Unit, UnitMap
from zoo import noise

CLASSES = 4


class Branch(nn.Module):
    """x + gain * relu(linear(x)); a gain of zero makes the block worthless."""

    def __init__(self, width: int, gain: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gain * torch.relu(self.linear(x))


class Planted(nn.Module):
    """Reads the class off its input: `worthless` does nothing, `head` is everything.

    The first `CLASSES` inputs are the evidence. `blocks.1` is multiplied by zero.
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.blocks = nn.Sequential(Branch(width, 0.3), Branch(width, 0.0), Branch(width, 0.3))
        self.head = nn.Linear(width, CLASSES)
        with torch.no_grad():
            self.stem.weight.copy_(torch.eye(width))
            self.stem.bias.zero_()
            for block in self.blocks:
                block.linear.weight.copy_(0.05 * noise(width, width))
                block.linear.bias.zero_()
            self.head.weight.zero_()
            self.head.weight[:, :CLASSES] = torch.eye(CLASSES)
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))


def planted_data(count: int = 1200, width: int = 8) -> tuple[Tensor, Tensor]:
    """Return inputs and targets that `Planted` gets right nine times in ten, class by class."""
    x = noise(count, width)
    target = x[:, :CLASSES].argmax(1)
    wrong = torch.arange(count) % 10 == 0
    target = torch.where(wrong, (target + 1) % CLASSES, target)
    order = target.argsort(stable=True)  # sorted by class, as folders of images are
    return x[order], target[order]


def batches_of(x: Any, target: Tensor, size: int = 100) -> list[tuple[Any, Tensor]]:
    return [(x[i : i + size], target[i : i + size]) for i in range(0, len(target), size)]


def units_of(model: nn.Module, *names: str, locked: tuple[str, ...] = (), **fields: Any) -> UnitMap:
    """Return a map of the named submodules, in this order."""

    def size(name: str) -> int:
        return count_params(model.get_submodule(name))

    removable = tuple(
        Unit(
            name=name, kind="block", in_shape=(), out_shape=(), params=size(name),
            flops=2 * size(name), position=index, **fields,
        )
        for index, name in enumerate(names)
    )  # fmt: skip
    shut = tuple(
        LockedUnit(
            name=name, kind="block", reason="shape change", detail="", params=size(name),
            flops=2 * size(name), position=len(names) + index,
        )
        for index, name in enumerate(locked)
    )  # fmt: skip
    total = count_params(model)
    return UnitMap(removable=removable, locked=shut, params=total, flops=2 * total)
