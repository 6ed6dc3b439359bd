"""How an image becomes a network's input: one description, saved with the model."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from srinit.records import record

# B batch, C channels, H W space


@record
class Preprocess:
    """Resize, center crop, scale to [0, 1], subtract the mean, divide by the deviation."""

    size: tuple[int, int] | None = None  # height, width
    crop: tuple[int, int] | None = None  # height, width
    channels: Literal[1, 3] = 3
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def pixels(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Return the resized and cropped pixels of an image, shape (C, H, W), bytes."""
        image = image.convert("L" if self.channels == 1 else "RGB")
        if self.size is not None and (image.height, image.width) != self.size:
            image = image.resize((self.size[1], self.size[0]), Image.Resampling.BILINEAR)
        if self.crop is not None:
            height, width = self.crop
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        array = np.asarray(image)
        return array[None] if self.channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))

    def normalized(self, pixels: Tensor) -> Tensor:
        """Return bytes (B, C, H, W) as the floats the network takes."""
        mean = torch.tensor(self.mean[: self.channels]).view(-1, 1, 1)
        std = torch.tensor(self.std[: self.channels]).view(-1, 1, 1)
        return pixels.float().div_(255).sub_(mean).div_(std)


@record
class Augment:
    """Random changes of training images, the same for a given generator."""

    crop_padding: int = 0
    flip: bool = False

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


def preprocess_from(settings: Any) -> Preprocess:
    """Return the record for a config section or mapping with the same fields."""
    values = settings if isinstance(settings, dict) else settings.model_dump()
    return Preprocess(**values)
