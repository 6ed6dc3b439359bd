"""Random changes of training images; none unless asked for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from srinit.records import record

# B batch, C channels, H W space


@record
class Augment:
    """Random crops and flips, drawn for every image beforehand.

    Both are off by default: a mirrored part may be another part, or a defect.
    """

    crop_padding: int = 0  # pixels of black around the image before a random crop of its old size
    flip: bool = False  # half of the images, left to right

    def draw(self, count: int, generator: torch.Generator) -> Drawn:
        """Return what happens to each of `count` images."""
        flips = torch.rand(count, generator=generator) < (0.5 if self.flip else 0.0)
        shifts = torch.randint(0, 2 * self.crop_padding + 1, (count, 2), generator=generator)
        return Drawn(flips=flips, shifts=shifts)

    def __call__(self, pixels: Tensor, drawn: Drawn) -> Tensor:
        """Return a changed copy of bytes (B, C, H, W); `drawn` says how each image changes."""
        out = pixels
        height, width = out.shape[2:]
        if self.flip:
            out = torch.where(drawn.flips.view(-1, 1, 1, 1), out.flip(3), out)
        if self.crop_padding:
            padded = F.pad(out, (self.crop_padding,) * 4)
            out = torch.stack(
                [
                    image[:, top : top + height, left : left + width]
                    for image, (top, left) in zip(padded, drawn.shifts.tolist(), strict=True)
                ]
            )
        return out


@record
class Drawn:
    """Random changes of some images."""

    flips: Tensor  # (B,) bool: left to right
    shifts: Tensor  # (B, 2): top and left of the crop

    def of(self, positions: object) -> Drawn:
        """Return those of some of the images."""
        at = torch.as_tensor(positions)
        return Drawn(flips=self.flips[at], shifts=self.shifts[at])
