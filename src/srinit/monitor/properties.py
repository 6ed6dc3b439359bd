"""Simple properties of an image. Shipped with edge packages: it needs Pillow and numpy alone."""

from __future__ import annotations

import numpy as np
from PIL import Image

PROPERTIES = ("brightness", "contrast", "sharpness")
SIDE = 256  # images are reduced to it before they are described


def image_properties(image: Image.Image) -> dict[str, float]:
    """Return brightness, contrast and sharpness of an image, whatever its size.

    Brightness is the mean gray level in [0, 1], contrast the standard deviation of gray levels,
    sharpness the mean absolute Laplacian. Images above 256 pixels are reduced first, so that the
    numbers of one camera can be compared.

    Example:
        >>> image_properties(Image.new("RGB", (4, 4), (255, 255, 255)))
        {'brightness': 1.0, 'contrast': 0.0, 'sharpness': 0.0}
    """
    gray = image.convert("L")
    gray.thumbnail((SIDE, SIDE))
    values = np.asarray(gray, dtype=np.float64) / 255
    inner = values[1:-1, 1:-1]
    around = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:]
    return {
        "brightness": float(values.mean()),
        "contrast": float(values.std()),
        "sharpness": float(np.abs(4 * inner - around).mean()) if inner.size else 0.0,
    }
