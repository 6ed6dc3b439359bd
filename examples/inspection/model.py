"""A small residual network for gray images of parts: nine blocks in three stages."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalization, and the shortcut around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(out)))


def _halved(before: int, after: int) -> nn.Sequential:
    conv = nn.Conv2d(before, after, 3, 2, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


class PartNet(nn.Module):
    """Gray images (B, 1, 48, 48) to three logits: OK, dent, scratch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _halved(1, 12)
        self.stage1 = nn.Sequential(*(Block(12) for _ in range(3)))
        self.down1 = _halved(12, 24)
        self.stage2 = nn.Sequential(*(Block(24) for _ in range(3)))
        self.down2 = _halved(24, 48)
        self.stage3 = nn.Sequential(*(Block(48) for _ in range(3)))
        self.head = nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 1, H, W) to logits (B, 3)."""
        x = self.stage1(self.stem(x))
        x = self.stage2(self.down1(x))
        x = self.stage3(self.down2(x))
        return self.head(x.amax((2, 3)))


def part_net() -> PartNet:
    """Return the network, untrained."""
    return PartNet()
