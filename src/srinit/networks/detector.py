"""Detectors that take and give tensors, as all other networks do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from srinit.errors import ModelError

# B batch, M detections, C channels, H W space

COLUMNS = 6  # x1, y1, x2, y2 in pixels of the input, score, class


class Detector(nn.Module):
    """A detection network of torchvision, or one that is called like those.

    Such networks take a list of images and give dicts of `boxes` (n, 4), `scores` and `labels`
    from 1 on; in training they take the targets as well, and give their own losses.

    Args:
        network: The detector.
        most: Detections an image, the surest ones; what is less sure is left out.

    In evaluation a forward of images (B, C, H, W) returns (B, most, 6): boxes, score and class,
    rows of 0 behind the last. In training it returns `Pending`, which the loss asks.
    """

    def __init__(self, network: nn.Module, most: int = 100) -> None:
        super().__init__()
        self.network, self.most = network, most

    def forward(self, images: Tensor) -> Any:
        """Return detections, or in training what the losses are made from."""
        if self.training:
            return Pending(self.network, images)
        return torch.stack([self._rows(each) for each in self.network(list(images))])

    def _rows(self, found: dict[str, Tensor]) -> Tensor:
        if not isinstance(found, dict) or not {"boxes", "scores", "labels"} <= found.keys():
            raise ModelError("a detector gives a dict of boxes, scores and labels for every image.")
        scores, labels = found["scores"].float(), found["labels"].float()
        rows = torch.cat([found["boxes"].float(), scores[:, None], labels[:, None]], 1)
        rows = rows[scores.argsort(descending=True, stable=True)[: self.most]]
        return nn.functional.pad(rows, (0, 0, 0, self.most - len(rows)))


class OneImage(nn.Module):
    """A detector as ONNX holds it: an image (1, C, H, W) to its detections (n, 6).

    How many there are depends on the image, so that a batch would have no shape.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.network = detector.network

    def forward(self, images: Tensor) -> Tensor:
        """Return boxes, score and class of every detection, the surest first."""
        found = self.network([images[0]])[0]
        scores, labels = found["scores"], found["labels"].float()
        return torch.cat([found["boxes"], scores[:, None], labels[:, None]], 1)


@dataclass(frozen=True)
class Pending:
    """A batch that a detector in training was called with; its losses need the targets."""

    network: nn.Module
    images: Tensor

    def loss(self, targets: list[dict[str, Tensor]]) -> Tensor:
        """Return the sum of the network's own losses."""
        found = self.network(list(self.images), targets)
        return torch.stack(list(found.values())).sum()
