"""An image becomes the pixels of an input. Shipped with edge packages: Pillow and numpy alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from .deep import Bits
from .images import to_channels


def input_pixels(
    image: Image.Image,
    *,
    size: int | tuple[int, int] | None,
    crop: int | tuple[int, int] | None,
    channels: int,
    interpolation: str,
    bits: Bits,
) -> npt.NDArray[np.uint8]:
    """Return the resized and cropped pixels of an image, shape (C, H, W), bytes.

    Resizing is Pillow's, with anti-aliasing, as in torchvision's usual preprocessing.

    Args:
        image: Decoded.
        size: Length of the shorter side, or (height, width).
        crop: Side of a square from the middle, or (height, width).
        channels: 1 for gray, 3 for RGB.
        interpolation: A filter of Pillow by its name, in any case.
        bits: Bits in use of samples that have more than 8.

    Raises:
        ValueError: The image is smaller than the crop, or has more bits than `bits`.
    """
    image = to_channels(image, channels, bits)
    target = resized(size, image.height, image.width)
    if target != (image.height, image.width):
        method = Image.Resampling[interpolation.upper()]
        image = image.resize((target[1], target[0]), method)
    if crop is not None:
        image = _center(image, *((crop, crop) if isinstance(crop, int) else crop))
    array = np.asarray(image)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def resized(size: int | tuple[int, int] | None, height: int, width: int) -> tuple[int, int]:
    """Return height and width of an image after resizing, before the crop."""
    if size is None:
        return height, width
    if not isinstance(size, int):
        return size[0], size[1]
    if height <= width:  # rounded down, as torchvision does
        return size, max(1, int(size * width / height))
    return max(1, int(size * height / width)), size


def _center(image: Image.Image, height: int, width: int) -> Image.Image:
    if image.height < height or image.width < width:
        raise ValueError(
            f"is {image.height}x{image.width} (height x width), smaller than the crop of "
            f"{height}x{width}; write data.preprocess.size"
        )
    top, left = margins(image.height, image.width, height, width)
    return image.crop((left, top, left + width, top + height))


def margins(height: int, width: int, kept_height: int, kept_width: int) -> tuple[int, int]:
    """Return what a crop of the middle takes off at the top and at the left."""
    # rounded as torchvision does: a picture of odd margin is not shifted against training
    return round((height - kept_height) / 2), round((width - kept_width) / 2)
