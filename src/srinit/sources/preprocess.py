"""How an image becomes a network's input: one description, saved with the pruned model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from srinit.config import PreprocessSection
from srinit.errors import ConfigError
from srinit.records import record
from srinit.sources.deep import Bits
from srinit.sources.images import to_channels

# B batch, C channels, H W space

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Interpolation = Literal["bilinear", "bicubic", "nearest", "lanczos"]


@record
class Preprocess:
    """Resize, center crop, divide by `scale`, subtract the mean, divide by the deviation.

    Raises:
        ValueError: `mean` and `std` have not one value per channel, or a `std` is not positive.
    """

    size: int | tuple[int, int] | None = None  # the shorter side, or (height, width)
    crop: int | tuple[int, int] | None = None  # a square, or (height, width), from the middle
    channels: Literal[1, 3] = 3
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    scale: float = 255.0  # pixels 0 ... 255 are divided by it
    interpolation: Interpolation = "bilinear"
    bits: Bits = 8  # of images with more than 8 bits a sample

    def __post_init__(self) -> None:
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(
                f"mean and std need one value per channel: {self.channels}, "
                f"not {len(self.mean)} and {len(self.std)}"
            )
        if min(self.std) <= 0 or self.scale <= 0:
            raise ValueError("std and scale must be positive")

    def pixels(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Return the resized and cropped pixels of an image, shape (C, H, W), bytes.

        Resizing is Pillow's, with anti-aliasing, as in torchvision's usual preprocessing.

        Raises:
            ValueError: The image is smaller than the crop, or has more bits than `bits`.
        """
        image = to_channels(image, self.channels, self.bits)
        target = self._resized(image.height, image.width)
        if target != (image.height, image.width):
            method = Image.Resampling[self.interpolation.upper()]
            image = image.resize((target[1], target[0]), method)
        if self.crop is not None:
            image = _center(image, *_pair(self.crop))
        array = np.asarray(image)
        return array[None] if self.channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.size is None:
            return height, width
        if isinstance(self.size, tuple):
            return self.size
        if height <= width:  # rounded down, as torchvision does
            return self.size, max(1, int(self.size * width / height))
        return max(1, int(self.size * height / width)), self.size

    def normalized(self, pixels: Tensor) -> Tensor:
        """Return bytes (B, C, H, W) as the floats the network takes."""
        mean = torch.tensor(self.mean).view(-1, 1, 1)
        std = torch.tensor(self.std).view(-1, 1, 1)
        return pixels.float().div_(self.scale).sub_(mean).div_(std)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _center(image: Image.Image, height: int, width: int) -> Image.Image:
    if image.height < height or image.width < width:
        raise ValueError(
            f"is {image.height}x{image.width} (height x width), smaller than the crop of "
            f"{height}x{width}; write data.preprocess.size"
        )
    # rounded as torchvision does: a picture of odd margin is not shifted against training
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def preprocess_from(settings: PreprocessSection | Mapping[str, Any]) -> Preprocess:
    """Return the record for a config section, or for the mapping that a recipe holds.

    Raises:
        ConfigError: Unknown keys or values that do not fit; every problem is listed.

    Example:
        >>> preprocess_from({"channels": 1, "mean": [0.3], "std": [0.4]}).mean
        (0.3,)
    """
    values = dict(settings) if isinstance(settings, Mapping) else settings.model_dump()
    try:
        return TypeAdapter(Preprocess).validate_python(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()]
        raise ConfigError(f"the preprocessing is not valid: {'; '.join(lines)}.") from None
