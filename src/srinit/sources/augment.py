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
    """Random crops and flips: the same for a generator in the same state.

    Both are off by default: a mirrored part may be another part, or a defect.
    """

    crop_padding: int = 0  # pixels of black around the image before a random crop of its old size
    flip: bool = False  # half of the images, left to right

    def both(
        self, pixels: Tensor, target: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return changed pixels, and masks (B, H, W) of bytes changed alike; other targets stay.

        What a crop brings in from beyond the edge is of no class (255).

        Raises:
            DataError: The targets lie in the images, and are no such masks.
        """
        if target.ndim < 2 or not (self.flip or self.crop_padding):
            return self(pixels, generator), target
        if target.shape != (len(pixels), *pixels.shape[2:]) or target.dtype != torch.uint8:
            raise DataError(
                f"data.augment changes images, and the targets {tuple(target.shape)} "
                f"{target.dtype} in them cannot be changed alike: only masks: can. Leave it out."
            )
        moved = self(torch.cat([pixels, 255 - target[:, None]], 1), generator)
        return moved[:, :-1], 255 - moved[:, -1]

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Return a changed copy of bytes (B, C, H, W)."""
        out = pixels
        count, _, height, width = out.shape
        if self.flip:
            chosen = torch.rand(count, generator=generator) < 0.5
            out = torch.where(chosen.view(-1, 1, 1, 1), out.flip(3), out)
        if self.crop_padding:
            pad = self.crop_padding
            padded = F.pad(out, (pad, pad, pad, pad))
            shifts = torch.randint(0, 2 * pad + 1, (count, 2), generator=generator).tolist()
            out = torch.stack(
                [
                    image[:, top : top + height, left : left + width]
                    for image, (top, left) in zip(padded, shifts, strict=True)
                ]
            )
        return out
