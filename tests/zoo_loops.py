"""Small residual networks whose additions stand in loops, blocks and lists."""

from __future__ import annotations

from torch import Tensor, nn


class Loop(nn.Module):
    """Residual additions in the parent's loop."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.attn:
            x = x + layer(x)
        return self.head(x)


class Wrapped(nn.Module):
    """A shortcut around a function."""

    def __init__(self) -> None:
        super().__init__()
        self.fn = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fn(x)


class Joined(nn.Module):
    """Nothing here is a shortcut: a product with a gate, and two branches side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate = nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.Sigmoid())
        self.one, self.two, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x * self.gate(x)
        return self.head(self.one(x) + self.two(x))


class Deep(nn.Module):
    """A branch whose middle keeps the shape, and a layer before it that no unit holds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.up, self.mid = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head(x + self.mid(self.up(x).relu()))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(self.norm(x)).relu()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.blocks = nn.Sequential(*(Block() for _ in range(3)))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))
