"""Networks of images, most of them residual."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from planted import CLASSES
from zoo import noise


class BasicBlock(nn.Module):
    """conv, norm, ReLU, conv, norm, added to the input, ReLU; as in torchvision."""

    bias = False

    def __init__(self, width: int = 16, groups: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=self.bias)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


class NewTensors(BasicBlock):
    """The same without a write in place."""

    def forward(self, x: Tensor) -> Tensor:
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + x)


class NormBlock(nn.Module):
    """A convolution and its norm, added to the input, ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.conv(x)))


class Images(nn.Module):
    """Three blocks, one of them with a convolution for every channel."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(NewTensors(width), NewTensors(width, width), NewTensors(width))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


class Down(nn.Module):
    """A block that changes the shape, with a projection; it drops out in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.shortcut = nn.Conv2d(4, 8, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(torch.relu(self.conv1(x))) + self.shortcut(x)
        return nn.functional.dropout(out, 0.5, self.training)


class Called(nn.Module):
    """Two convolutions; ReLU is called as a module, a function or a method."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 3, padding=1)
        self.two = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)
        self.relu = nn.ReLU()
        self.how = how

    def activate(self, x: Tensor) -> Tensor:
        match self.how:
            case "module":
                return self.relu(x)  # type: ignore[no-any-return]
            case "function":
                return F.relu(x)
            case "method":
                return x.relu()
            case "in place":
                return F.relu(x, inplace=True)
        return F.gelu(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activate(self.two(self.activate(self.one(x))))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


class Bright(nn.Module):
    """Says 1 for images brighter than a limit; dark light makes it wrong."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = nn.Parameter(torch.tensor(limit))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((1, 2, 3))
        return torch.stack([self.limit - mean, mean - self.limit], 1)


class Pixels(nn.Module):
    """A residual network of pixels, whose output may be coarser than the masks."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1, stride=stride)
        self.block, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.stem(x)
        hidden = hidden + self.block(hidden)
        return {"out": self.head(hidden)}


class Behind(nn.Module):
    """A convolution and a ReLU: channels whose bias is low are dead."""

    def __init__(self, biases: list[float]) -> None:
        super().__init__()
        self.conv = nn.utils.skip_init(nn.Conv2d, 3, len(biases), 1)
        self.conv.weight.detach().copy_(noise(len(biases), 3, 1, 1, seed=1))
        self.conv.bias.detach().copy_(torch.tensor(biases))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


class Inverted(nn.Module):
    """An inverted residual: expansion, depthwise convolution, projection, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 2 * channels
        self.body = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide),
            nn.ReLU6(), nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)
