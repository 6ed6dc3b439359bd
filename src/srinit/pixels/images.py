"""Image files become pixels of 8 bits: only harmless formats, no bombs, no silent clipping.

Shipped with edge packages, so it needs Pillow and numpy alone.
"""

from __future__ import annotations

import io

from PIL import Image

from .deep import Bits, deep_image, refuse_deep

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}  # EPS would run Ghostscript
"""What is read, and the endings by which a folder's images are known, in any case."""
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
MAX_PIXELS = 89_000_000  # larger images are refused as decompression bombs
MAX_FILE_BYTES = 256 << 20
SEVERAL = "srinit_several"  # key of `Image.info`: the file holds more than this picture


def open_image(content: bytes, bits: Bits = 8) -> Image.Image:
    """Return a decoded image of 8 bits a sample; of several pictures in a file the first.

    Args:
        content: The encoded image.
        bits: Bits in use of samples that have more than 8; see `deep_image`.

    Raises:
        ValueError: Not an image, truncated, beyond `MAX_PIXELS` or `MAX_FILE_BYTES`, or with
            samples of more than 8 bits that `bits` does not fit.
    """
    if not content:
        raise ValueError("the file is empty")
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{len(content):,} bytes are too many (limit {MAX_FILE_BYTES:,})")
    try:
        image = Image.open(io.BytesIO(content), formats=list(FORMATS))
        several = image.format != "MPO" and bool(getattr(image, "is_animated", False))
    except Exception as error:  # decoders raise errors of every kind on damaged files
        raise ValueError(_reason(error)) from None
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width}x{image.height} pixels are too many (limit {MAX_PIXELS:,})")
    try:
        decoded = deep_image(image, content, bits)
        if decoded is None:
            image.load()
            decoded = image
    except Exception as error:
        raise ValueError(_reason(error)) from None
    if several:
        decoded.info[SEVERAL] = True
    return decoded


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
        >>> import numpy as np
        >>> deep = Image.fromarray(np.array([[0, 4095]], dtype=np.uint16))
        >>> np.asarray(to_channels(deep, 1, bits=12)).tolist()
        [[0, 255]]
    """
    image = refuse_deep(image, bits)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("L" if channels == 1 else "RGB")
