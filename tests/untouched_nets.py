"""Networks whose owner would notice a change: mixed parts, and a fuse that blows on demand."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from zoo import noise


class Fuse(nn.Module):
    """Passes its input on; blows at the call that `blow_at` names, whoever calls."""

    left: ClassVar[int] = -1

    def forward(self, x: Tensor) -> Tensor:
        if Fuse.left == 0:
            raise RuntimeError("the fuse has blown")
        Fuse.left -= 1
        return x


class ConvBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.drop(self.norm(self.conv(x))))


class ConvNet(nn.Module):
    """Batch normalization, dropout, mixed modes, a frozen part, hooks and a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(*(ConvBlock(4) for _ in range(3)))
        self.fuse = Fuse()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.fuse(self.blocks(self.stem(x))).mean((2, 3)))


class TokenBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.attention(y, y, y, need_weights=False)[0]


class TokenNet(nn.Module):
    """Attention over patches; a buffer that no state_dict holds, and a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.register_buffer("place", noise(1, 4, 8), persistent=False)
        self.layers = nn.ModuleList(TokenBlock(8) for _ in range(3))
        self.fuse = Fuse()
        self.head = nn.Linear(8, 3, bias=False)
        self.spare = nn.Linear(8, 3, bias=False)
        self.spare.weight = self.head.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.place
        for layer in self.layers:
            x = layer(x)
        return self.head(self.fuse(x).mean(1)) + 0 * self.spare(x.mean(1))


class Strided(nn.Module):
    """A residual block that may halve the resolution, with in-place activations."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(2, after)
        self.relu = nn.ReLU(inplace=True)
        same = before == after and stride == 1
        self.short = nn.Identity() if same else nn.Conv2d(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        return self.relu(y + self.short(x))


class StageNet(nn.Module):
    """Two stages of blocks that write over their own activations, and a module with two names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.stage1 = nn.ModuleList([Strided(4, 4, 1), Strided(4, 4, 1)])
        self.stage2 = nn.Sequential(Strided(4, 6, 2), Strided(6, 6, 1))
        self.fuse = Fuse()
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(6 * 16, 3))
        self.first = self.relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.stem(x))
        for block in self.stage1:
            x = block(x)
        return self.head(self.fuse(self.relu(self.stage2(x))))


class EncoderNet(nn.Module):
    """torch's own encoder, with its fast path in evaluation mode, and a frozen embedding."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.fuse = Fuse()
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        return self.head(self.fuse(self.encoder(x)).mean(1))
