"""Image files become pixels of 8 bits: only harmless formats, no bombs, no silent clipping."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from PIL import Image

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "PPM")  # EPS would run Ghostscript
MAX_PIXELS = 89_000_000  # larger images are refused as decompression bombs
MAX_FILE_BYTES = 256 << 20

Bits = Literal[8, 10, 12, 14, 16]


def open_image(content: bytes) -> Image.Image:
    """Return a decoded image; of an animation the first picture.

    Raises:
        ValueError: Not an image, truncated, or beyond `MAX_PIXELS` or `MAX_FILE_BYTES`.
    """
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{len(content):,} bytes are too many (limit {MAX_FILE_BYTES:,})")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Exception as error:  # decoders raise errors of every kind on damaged files
        raise ValueError(_reason(error)) from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels are too many (limit {MAX_PIXELS:,})")
    try:
        image.load()
    except Exception as error:
        raise ValueError(_reason(error)) from None
    return image


def _reason(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    if text.startswith("cannot identify image file"):
        return "not an image of a known format"
    return text or type(error).__name__


def to_channels(image: Image.Image, channels: int, bits: Bits = 8) -> Image.Image:
    """Return an image as grayscale (1 channel) or RGB (3) with 8 bits a sample.

    Pillow clips samples of 16 bits at 255 when it converts them; here they are scaled by the
    number of bits that was asked for, or refused.

    Raises:
        ValueError: The image has more than 8 bits a sample and `bits` does not say how many.

    Example:
        >>> deep = Image.fromarray(np.array([[0, 4095]], dtype=np.uint16))
        >>> np.asarray(to_channels(deep, 1, bits=12)).tolist()
        [[0, 255]]
    """
    if image.mode == "F":
        raise ValueError("has floating-point pixels; give such data as npz: arrays")
    if image.mode.startswith("I"):
        image = _reduced(image, bits)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("L" if channels == 1 else "RGB")


def _reduced(image: Image.Image, bits: Bits) -> Image.Image:
    if bits == 8:
        raise ValueError("has 16 bits a sample; write data.preprocess.bits: 16 (or 10, 12, 14)")
    samples = np.asarray(image).astype(np.int64)
    largest = 2**bits - 1
    if samples.min() < 0 or samples.max() > largest:
        raise ValueError(
            f"has samples from {samples.min()} to {samples.max()}, "
            f"which is more than data.preprocess.bits: {bits}"
        )
    return Image.fromarray((samples >> (bits - 8)).astype(np.uint8))
