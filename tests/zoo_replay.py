"""Networks whose forward passes are hard to replay: branches, tuples, mixed examples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from planted import Planted


class Plain(nn.Module):
    """Data-dependent branches, a skip over several blocks, and an addition in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.side = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)
        self.calls = {"stem": 0}

    def forward(self, x: Tensor) -> Tensor:
        start = torch.relu(self.stem(x))
        out = self.side(start)
        for index, block in enumerate(self.blocks):
            if out.abs().sum() > 0 or index == 0:
                out = out + block(out)
        kept = self.side(out)
        kept += start
        return self.head(torch.tanh(kept) + start)


class Tuple(nn.Module):
    """Blocks that take and give tuples, and a mask that has no batch dimension."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x: Tensor, *, mask: Tensor, note: str) -> tuple[Tensor, dict[str, Any]]:
            assert mask.shape == (5, 5)
            return x + torch.einsum("ij,bjd->bid", mask, self.linear(x)), {"note": note, "x": x}

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = self.Block(), self.Block()
        self.head = nn.Linear(4, 3)
        self.register_buffer("mask", torch.eye(5))

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.one(x, mask=self.mask, note="a")
        x, more = self.two(x, mask=self.mask, note="b")
        return self.head((x + more["x"]).mean(1))


class SequenceFirst(nn.Module):
    """The batch is the second dimension inside."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)
        self.next = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out = self.next(self.layer(x.transpose(0, 1)))
        return self.head(out.mean(0))


class Shared(nn.Module):
    """One block, called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = x + torch.tanh(self.block(x))
        return self.head(x)


class Mixing(nn.Module):
    """Examples of a batch see each other, so that groups cannot be told apart."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(x - x.mean(0))
        return self.head(x)


class Moody(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 6:
            x = self.one(x)
        return self.two(self.one(x))


class Fragile(Planted):
    """Classes that differ by less than bfloat16 can tell."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return 1e3 + out * 1e-3
