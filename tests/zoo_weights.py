"""Networks whose weights are held, named or drawn in a way of their own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from zoo import noise


class ClassToken(nn.Module):
    """Gives a view of a parameter to a module, as CaiT and PiT do."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 3))
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.token.expand(len(x), -1)) + self.head(x)


class Versioned(nn.Linear):
    """Reads its entries by the version that a state dict states, as torchvision's MNASNet does."""

    _version = 2

    def _load_from_state_dict(
        self, state: Any, prefix: str, metadata: Any, *args: Any, **kwargs: Any
    ) -> None:
        if metadata.get("version") != 2:
            raise ValueError(f"version should be 2 instead of {metadata.get('version')}")
        super()._load_from_state_dict(state, prefix, metadata, *args, **kwargs)


class Bare(nn.Module):
    """Parameters of its own, without `reset_parameters`."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(noise(1, 1, 6) + 3)
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.token


class Own(nn.Module):
    """A module of another library, with its own initialization."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(6, 6))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.table, 4.0, 5.0)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.table


class Indexed(nn.Module):
    """Reads through an index, counts its calls, masks with infinity, and keeps a mean."""

    def __init__(self) -> None:
        super().__init__()
        own = torch.Generator().manual_seed(0)
        self.layer = nn.Linear(4, 3)
        with torch.no_grad():
            self.layer.weight.copy_(torch.randn(3, 4, generator=own))
            self.layer.bias.zero_()
        self.register_buffer("index", torch.arange(35, 39))
        self.register_buffer("steps", torch.tensor([0, 0]))
        self.register_buffer("seen", torch.tensor([False, True]))
        self.register_buffer("mask", torch.tensor([0.0, -math.inf, math.inf, 0.1]))
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("rate", torch.tensor(0.1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
            self.mean.mul_(0.5).add_(x.mean(0), alpha=0.5)
        return self.layer(x[:, self.index - 35])
