"""Arrays as small pictures: normalized, colored, encoded."""

from __future__ import annotations

import base64
import io
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from srinit.runs.pictures import Picture

# H W space, C channels

MAX_SIDE = 160  # pixels; larger pictures are reduced
SMALL = 64  # up to here PNG, above JPEG
SHARP = 128  # small pictures under a heat map are enlarged to about this
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating[Any]]
# Dark to bright, readable without color vision (anchors of matplotlib's "inferno").
HEAT = np.array(
    [[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]]
)


def encoded(pixels: Bytes) -> Picture:
    """Return pixels (H, W, 3) or (H, W) as a picture: PNG if small, else JPEG, reduced."""
    image = Image.fromarray(pixels)
    if max(image.size) > MAX_SIDE:
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small = max(image.size) <= SMALL
    media: Literal["image/png", "image/jpeg"] = "image/png" if small else "image/jpeg"
    if small:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=82)
    return Picture(
        media=media,
        base64=base64.b64encode(buffer.getvalue()).decode(),
        width=image.width,
        height=image.height,
    )


def heat(values: Floats, *, low: float | None = None, high: float | None = None) -> Bytes:
    """Return values (H, W) as colors (H, W, 3); the range is that of the values by default."""
    floor = float(values.min()) if low is None else low
    ceiling = float(values.max()) if high is None else high
    unit = (values - floor) / max(ceiling - floor, 1e-12)
    place = np.clip(unit, 0, 1) * (len(HEAT) - 1)
    left = np.minimum(place.astype(int), len(HEAT) - 2)
    share = (place - left)[..., None]
    return np.asarray(HEAT[left] * (1 - share) + HEAT[left + 1] * share, dtype=np.uint8)


def overlay(pixels: Bytes, values: Floats) -> Bytes:
    """Return non-negative values as heat over the gray picture, shape (H, W, 3).

    Small pictures are enlarged to the size of `values` first.
    """
    gray = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    factor = max(values.shape[0] // gray.shape[0], 1)
    gray = gray.repeat(factor, axis=0).repeat(factor, axis=1)
    top = float(values.max())
    unit = np.clip(values / top, 0, 1) if top > 0 else np.zeros_like(values)
    share = (0.25 + 0.5 * unit)[..., None]
    return np.asarray(gray[..., None] * (1 - share) + heat(unit, low=0, high=1) * share, np.uint8)


def gradient_image(gradient: Floats) -> Bytes:
    """Return a signed gradient (C, H, W) around gray: (H, W, 3) or, of one channel, (H, W)."""
    reach = float(np.quantile(np.abs(gradient), 0.995))
    unit = np.clip(0.5 + 0.5 * gradient / max(reach, 1e-12), 0, 1)
    levels = (255 * unit).astype(np.uint8)
    if levels.shape[0] == 3:
        return np.ascontiguousarray(levels.transpose(1, 2, 0))
    return np.ascontiguousarray(levels.mean(axis=0).astype(np.uint8))
