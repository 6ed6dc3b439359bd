"""Small networks that carry their own truth: how many units they have, and what is locked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "cifar10" / "model.py"


def cifar_resnet(depth: int, num_classes: int = 10) -> nn.Module:
    """The example's ResNet, untrained; the same seed gives the same weights."""
    from srinit.networks import load_model

    args = {"depth": depth, "num_classes": num_classes}
    return load_model(f"py:{EXAMPLE}:resnet", args=args)


@dataclass(frozen=True)
class Case:
    """A network, its inputs, and the truth about it."""

    build: Callable[[], tuple[nn.Module, Any]]
    units: int
    reasons: tuple[str, ...] = ()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tokens(*shape: int, high: int = 90) -> Tensor:
    return torch.randint(2, high, shape, generator=torch.Generator().manual_seed(0))


class InlineResidual(nn.Module):
    """A residual network whose additions stand in one forward: no unit is a module."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Linear(8, 16) for _ in range(3))
        self.second = nn.ModuleList(nn.Linear(16, 8) for _ in range(3))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        for first, second in zip(self.first, self.second, strict=True):
            x = x + second(torch.relu(first(x)))
        return self.head(x)


class SharedLoop(nn.Module):
    """One block called four times."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Residual(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(4):
            x = self.block(x)
        return self.head(x)


class Residual(nn.Module):
    """A block of two linear layers around a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(x)))


class LSTMStack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.LSTM(8, 8, batch_first=True) for _ in range(3))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(x[:, -1])


def torch_transformer() -> tuple[nn.Module, Any]:
    model = nn.Transformer(16, 2, 3, 3, 32, batch_first=True)
    return model, (noise(2, 5, 16), noise(2, 4, 16))


PLAIN = {
    "cifar_resnet56": Case(lambda: (cifar_resnet(56), noise(2, 3, 32, 32)), 25),
    "inline_residual_mlp": Case(lambda: (InlineResidual(), noise(2, 8)), 0),
    "nn_transformer": Case(torch_transformer, 6),
    "lstm_stack": Case(lambda: (LSTMStack(), noise(2, 5, 8)), 0),
    "shared_loop": Case(lambda: (SharedLoop(), noise(2, 8)), 0, ("shared",)),
}
