"""The network of `tiles.py`: a ResNet-34 of quarter width for gray pictures, six classes."""

from collections import OrderedDict

from timm.models.resnet import BasicBlock, ResNet
from torch import nn


def tile_net() -> nn.Module:
    """Return 16 basic blocks of 16 to 128 channels, untrained; light and contrast do not count."""
    net = ResNet(
        BasicBlock, [3, 4, 6, 3], in_chans=1, num_classes=6, channels=(16, 32, 64, 128),
        stem_type="deep", stem_width=8, global_pool="catavgmax", drop_rate=0.2,
    )  # fmt: skip
    return nn.Sequential(OrderedDict(even=nn.InstanceNorm2d(1), net=net))
