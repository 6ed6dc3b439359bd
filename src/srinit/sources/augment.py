"""Random changes of training images; none unless asked for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from srinit.errors import DataError
from srinit.records import record

# B batch, C channels, H W space


@record
class Augment:
    """Random crops and flips, drawn for every image beforehand.

    Both are off by default: a mirrored part may be another part, or a defect.
    """

    crop_padding: int = 0  # pixels of black around the image before a random crop of its old size
    flip: bool = False  # half of the images, left to right

    def both(self, pixels: Tensor, target: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """Return changed pixels, and masks (B, H, W) of bytes changed alike; other targets stay.

        What a crop brings in from beyond the edge is of no class (255).

        Raises:
            DataError: The targets lie in the images, and are no such masks.
        """
        if target.ndim < 2 or not (self.flip or self.crop_padding):
            return self(pixels, drawn), target
        if target.shape != (len(pixels), *pixels.shape[2:]) or target.dtype != torch.uint8:
            raise DataError(
                f"data.augment changes images, and the targets {tuple(target.shape)} "
                f"{target.dtype} in them cannot be changed alike: only masks: can. Leave it out."
            )
        moved = self(torch.cat([pixels, 255 - target[:, None]], 1), drawn)
        return moved[:, :-1], 255 - moved[:, -1]

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
