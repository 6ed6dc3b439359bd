"""A ResNet-18 whose second and third stage a bank of good parts is made of."""

import sys
from pathlib import Path

from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from patchcore import PatchCore


class Stages(nn.Module):
    """The features of two stages of a ResNet of torchvision."""

    def __init__(self, net):
        super().__init__()
        self.stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.layer1, self.layer2, self.layer3 = net.layer1, net.layer2, net.layer3

    def forward(self, x):
        """Return both maps, the finer one first."""
        fine = self.layer2(self.layer1(self.stem(x)))
        return fine, self.layer3(fine)


def detector():
    """Return the detector, its weights still to be loaded."""
    from torchvision.models import resnet18

    return PatchCore(Stages(resnet18(weights=None)), channels=128 + 256)
