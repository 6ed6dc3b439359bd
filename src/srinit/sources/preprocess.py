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
from srinit.pixels.deep import Bits
from srinit.pixels.pixels import input_pixels
from srinit.records import record

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

        Raises:
            ValueError: The image is smaller than the crop, or has more bits than `bits`.
        """
        return input_pixels(
            image,
            size=self.size,
            crop=self.crop,
            channels=self.channels,
            interpolation=self.interpolation,
            bits=self.bits,
        )

    def normalized(self, pixels: Tensor) -> Tensor:
        """Return bytes (B, C, H, W) as the floats the network takes."""
        mean = torch.tensor(self.mean).view(-1, 1, 1)
        std = torch.tensor(self.std).view(-1, 1, 1)
        return pixels.float().div_(self.scale).sub_(mean).div_(std)


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
