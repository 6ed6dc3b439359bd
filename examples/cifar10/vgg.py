"""VGG-16 with batch normalization for 32x32 images: a network without shortcuts.

Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition,
configuration D, https://arxiv.org/abs/1409.1556; one linear layer after the last pooling, as is
usual for CIFAR. Its removable units are plain ones: `include_plain=True`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Output channels of every convolution, by stage; a pooling layer ends each.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class CifarVGG(nn.Module):
    """Thirteen 3x3 convolutions, each with batch normalization and ReLU, and one linear layer."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for stage in STAGES:
            for channels in stage:
                layers.append(nn.Conv2d(before, channels, 3, padding=1, bias=False))
                layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
                before = channels
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(before, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, 32, 32) to logits (B, num_classes)."""
        return self.classifier(torch.flatten(self.features(x), 1))


def vgg16_bn(num_classes: int = 10) -> CifarVGG:
    """Return a VGG-16 with batch normalization, untrained."""
    return CifarVGG(num_classes)
