"""What a camera, a lamp or a cable may do to an image, at five severities; torchvision does it."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from srinit.errors import ConfigError, require

# C channels, H W space

Corruption = Callable[[Tensor, int], Tensor]
"""From an image (C, H, W), bytes, and a severity from 1 to 5, to an image like it."""

SEVERITIES = (1, 2, 3, 4, 5)
NOISE = (0.04, 0.08, 0.12, 0.18, 0.26)  # standard deviation, full scale is 1
BLUR = (0.01, 0.02, 0.03, 0.045, 0.06)  # standard deviation, share of the shorter side
SMALLEST_BLUR = 0.35  # pixels a step, for small images
BRIGHTNESS = (0.8, 0.65, 0.5, 0.35, 0.2)  # factor: darker
CONTRAST = (0.8, 0.6, 0.45, 0.3, 0.2)  # factor
JPEG = (60, 40, 25, 15, 8)  # quality
RESOLUTION = (0.8, 0.65, 0.5, 0.35, 0.25)  # of the sides, then enlarged again
OCCLUSION = (0.15, 0.22, 0.3, 0.4, 0.5)  # of the sides, a gray rectangle


def _functional() -> Any:
    require("torchvision", "vision", "to corrupt images")
    return importlib.import_module("torchvision.transforms.v2.functional")


def noise(image: Tensor, severity: int) -> Tensor:
    """Add Gaussian noise, each channel and pixel by itself."""
    found = _functional().gaussian_noise(image.float() / 255, sigma=NOISE[severity - 1])
    return _bytes(found)


def blur(image: Tensor, severity: int) -> Tensor:
    """Blur with a Gaussian."""
    sigma = max(BLUR[severity - 1] * min(image.shape[1:]), SMALLEST_BLUR * severity)
    size = 2 * max(1, round(3 * sigma)) + 1
    return _like(_functional().gaussian_blur(image, [size, size], [sigma, sigma]))


def brightness(image: Tensor, severity: int) -> Tensor:
    """Darken."""
    return _bytes(image.float() / 255 * BRIGHTNESS[severity - 1])


def contrast(image: Tensor, severity: int) -> Tensor:
    """Move every pixel towards the mean of the image."""
    return _like(_functional().adjust_contrast(image, CONTRAST[severity - 1]))


def jpeg(image: Tensor, severity: int) -> Tensor:
    """Compress and decompress; by Pillow, since torchvision gives its codecs up."""
    pixels = image.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels[..., 0] if image.shape[0] == 1 else pixels)
    picture.save(buffer, "JPEG", quality=JPEG[severity - 1])
    found = torch.from_numpy(np.array(Image.open(buffer)))
    return found[None] if image.shape[0] == 1 else found.permute(2, 0, 1).contiguous()


def resolution(image: Tensor, severity: int) -> Tensor:
    """Make smaller and enlarge again."""
    height, width = image.shape[1:]
    share = RESOLUTION[severity - 1]
    small = [max(1, round(height * share)), max(1, round(width * share))]
    resize = _functional().resize
    return _like(resize(resize(image, small, antialias=True), [height, width], antialias=True))


def occlusion(image: Tensor, severity: int) -> Tensor:
    """Cover a part with a gray rectangle, somewhere."""
    height, width = image.shape[1:]
    tall, wide = (max(1, round(OCCLUSION[severity - 1] * side)) for side in (height, width))
    top = int(torch.randint(0, height - tall + 1, ()))
    left = int(torch.randint(0, width - wide + 1, ()))
    gray = torch.full((image.shape[0], 1, 1), 128, dtype=image.dtype)
    return _like(_functional().erase(image, top, left, tall, wide, gray))


CORRUPTIONS: dict[str, Corruption] = {
    "noise": noise,
    "blur": blur,
    "brightness": brightness,
    "contrast": contrast,
    "jpeg": jpeg,
    "resolution": resolution,
    "occlusion": occlusion,
}


def find_corruptions(wanted: Mapping[str, Corruption | None]) -> dict[str, Corruption]:
    """Return corruptions by name, your own as they are.

    Args:
        wanted: A function by the name that is shown, or None for one of `CORRUPTIONS`.

    Raises:
        ConfigError: There is no such corruption.
    """
    unknown = [n for n, function in wanted.items() if function is None and n not in CORRUPTIONS]
    if unknown:
        raise ConfigError(
            f"there is no corruption {unknown[0]!r}; there are {', '.join(CORRUPTIONS)}, and your "
            "own: py:FILE.py:FUNCTION(image, severity)."
        )
    return {name: function or CORRUPTIONS[name] for name, function in wanted.items()}


def _bytes(image: Tensor) -> Tensor:
    return image.clamp(0, 1).mul(255).round().to(torch.uint8)


def _like(image: object) -> Tensor:
    return torch.as_tensor(image)
