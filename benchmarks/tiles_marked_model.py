"""The networks of `tiles_marked.py`: one encoder of timm's blocks, with heads for three tasks."""

import sys
from collections import OrderedDict
from pathlib import Path

import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (8, 16, 32, 64)


class Encoder(nn.Module):
    """A ResNet-34 of an eighth of the width, for gray pictures in any light."""

    def __init__(self) -> None:
        super().__init__()
        self.even = nn.InstanceNorm2d(1)
        self.net = ResNet(
            BasicBlock, [3, 4, 6, 3], in_chans=1, num_classes=0, channels=WIDTHS,
            stem_type="deep", stem_width=8,
        )  # fmt: skip

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of the four stages."""
        net = self.net
        x = net.maxpool(net.act1(net.bn1(net.conv1(self.even(x)))))
        found = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            found.append(x)
        return found


class Merged(nn.Module):
    """The features of all stages in one map, a quarter of the picture's side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.out_channels = width
        self.sides = nn.ModuleList(nn.Conv2d(w, width, 1) for w in WIDTHS)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map."""
        found = [side(each) for side, each in zip(self.sides, self.encoder(x), strict=True)]
        size = found[0].shape[2:]
        found = [found[0], *(F.interpolate(each, size=size, mode="bilinear") for each in found[1:])]
        return F.relu(self.bn(torch.stack(found).sum(0)))


def segmenter() -> nn.Module:
    """Return a network that calls each fourth pixel, in both directions, good or defective."""
    return nn.Sequential(OrderedDict(merged=Merged(24), head=nn.Conv2d(24, 2, 1)))


class Gray(nn.Module):
    """The merged features of the first channel: detectors of torchvision take three."""

    def __init__(self) -> None:
        super().__init__()
        self.merged = Merged(32)
        self.out_channels = 32

    def forward(self, x: Tensor) -> Tensor:
        """Return the map."""
        return self.merged(x[:, :1])


def finder() -> nn.Module:
    """Return a detector (FCOS) of one class of objects."""
    from torchvision.models.detection import FCOS
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    from srinit import Detector

    network = FCOS(
        Gray(), 2, min_size=96, max_size=96, image_mean=[0.5] * 3, image_std=[0.25] * 3,
        anchor_generator=AnchorGenerator(sizes=((8,),), aspect_ratios=((1.0,),)),
        detections_per_img=20, topk_candidates=100, score_thresh=0.02,
    )  # fmt: skip
    return Detector(network, most=20)


class Stages(nn.Module):
    """The second and third stage of a CIFAR ResNet, which has never seen a tile."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.conv1, self.bn1 = net.conv1, net.bn1
        self.layer1, self.layer2, self.layer3 = net.layer1, net.layer2, net.layer3

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both maps, the finer one first."""
        fine = self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))
        return fine, self.layer3(fine)


def bank() -> nn.Module:
    """Return PatchCore on a ResNet-20 of CIFAR-10, its weights still to be loaded."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from cifar_model import CifarResNet
    from patchcore import PatchCore

    return PatchCore(Stages(CifarResNet(20)), channels=32 + 64, size=300)
