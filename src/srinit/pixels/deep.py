"""Images with more than 8 bits a sample: every bit is read, then scaled by the bits in use.

Pillow has no mode for colors of 16 bits; it keeps the upper byte of each sample. Its decoders are
asked twice here, for the upper bytes and for the lower ones, so that no bit is lost. Shipped with
edge packages, so it needs Pillow and numpy alone.
"""

from __future__ import annotations

import io
import re
import sys
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Bits = Literal[8, 10, 12, 14, 16]
Samples = npt.NDArray[np.int64]  # H W, or H W C

LARGEST = "srinit_largest"  # key of `Image.info`: the largest sample before scaling
FULL = 65535  # a container of 16 bits, which says nothing of how many are in use
COLORS = {"RGB": 3, "RGBA": 3, "LA": 1, "CMYK": 4}  # bands that are kept; alpha is dropped
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR = 258, 262, 284  # TIFF tags
WHITE_IS_ZERO, SEPARATE = 0, 2


def deep_image(image: Image.Image, content: bytes, bits: Bits) -> Image.Image | None:
    """Return an image of more than 8 bits a sample scaled to 8; None if it has no more than 8.

    Args:
        image: As it was opened, not decoded.
        content: Its bytes.
        bits: Bits in use: 2**bits - 1 becomes 255.

    Raises:
        ValueError: Floating-point samples, `bits` is 8, samples beyond `bits`, a file that
            declares another range, or a layout of which not every bit can be read.
    """
    if image.mode == "F":
        raise ValueError("has floating-point pixels; give such data as npz: arrays")
    declared = FULL
    if image.format == "PPM":
        declared = _ppm_maximum(image)
        if declared <= 255:
            return None
        _refuse_eight(bits)
        samples = _ppm_samples(image, content, declared)
    elif image.mode.startswith("I"):
        declared = _tiff_maximum(image)
        _refuse_eight(bits)
        image.load()
        samples = np.asarray(image).astype(np.int64)
    elif _is_deep_color(image):
        _refuse_eight(bits)
        samples = _color_samples(image, content)
    else:
        return None
    if declared not in (FULL, 2**bits - 1):
        raise ValueError(
            f"declares {declared} as its largest sample, which does not fit "
            f"data.preprocess.bits: {bits} (0 to {2**bits - 1})"
        )
    mode = image.mode if image.mode == "CMYK" else None
    return scaled_image(samples, bits, mode)


def refuse_deep(image: Image.Image, bits: Bits) -> Image.Image:
    """Return an image that somebody else opened with 8 bits a sample, or refuse it.

    Raises:
        ValueError: As for `deep_image`; colors of more than 8 bits, of which Pillow would keep 8.
    """
    if image.mode == "F":
        raise ValueError("has floating-point pixels; give such data as npz: arrays")
    if image.mode.startswith("I"):
        _refuse_eight(bits)
        return scaled_image(np.asarray(image).astype(np.int64), bits)
    if _is_deep_color(image):
        raise ValueError(
            "has more than 8 bits a color, of which Pillow keeps 8; return its path's folder as "
            "folder: or csv:, or its pixels as an array of uint16"
        )
    return image


def scaled_image(samples: npt.NDArray[Any], bits: Bits, mode: str | None = None) -> Image.Image:
    """Return samples (H, W) or (H, W, C) of up to 16 bits as an image: 2**bits - 1 becomes 255.

    Args:
        samples: Integers.
        bits: Bits in use.
        mode: Of the image; by default what Pillow takes the shape for.

    Raises:
        ValueError: `bits` is 8, or a sample lies beyond it.
    """
    _refuse_eight(bits)
    largest = 2**bits - 1
    if samples.min() < 0 or samples.max() > largest:
        raise ValueError(
            f"has samples from {samples.min()} to {samples.max()}, "
            f"which is more than data.preprocess.bits: {bits}"
        )
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]
    pixels = (samples >> (bits - 8)).astype(np.uint8)
    image = Image.fromarray(pixels)
    if mode is not None:  # four bands are taken for RGBA
        image = Image.frombytes(mode, image.size, pixels.tobytes())
    image.info[LARGEST] = int(samples.max())
    return image


def _refuse_eight(bits: Bits) -> None:
    if bits == 8:
        raise ValueError("has 16 bits a sample; write data.preprocess.bits: 16 (or 10, 12, 14)")


def _raw_modes(image: Image.Image) -> list[str]:
    """Return the layouts of samples that Pillow found in the file, one a part of the image."""
    layouts = (tile[3] for tile in getattr(image, "tile", ()))
    return [args if isinstance(args, str) else str(args[0]) for args in layouts if args]


def _is_deep_color(image: Image.Image) -> bool:
    if _bits_per_sample(image) > 8:
        return True
    return any(";16" in mode and image.mode not in ("L", "P", "1") for mode in _raw_modes(image))


def _bits_per_sample(image: Image.Image) -> int:
    tags = getattr(image, "tag_v2", None)
    found = tags.get(BITS_PER_SAMPLE, 8) if tags is not None and image.format == "TIFF" else 8
    return int(max(found) if isinstance(found, tuple) else found)


def _tiff_maximum(image: Image.Image) -> int:
    """Return the largest sample that a gray TIFF file of its depth can hold, if that is known."""
    tags = getattr(image, "tag_v2", None)
    if tags is None or image.format != "TIFF":
        return FULL
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        raise ValueError("has more than 8 bits a sample with 0 for white; save it with 0 for black")
    depth = _bits_per_sample(image)
    return int(2**depth - 1) if depth < 16 else FULL


def _color_samples(image: Image.Image, content: bytes) -> Samples:
    """Return the colors of an image of 16 bits a sample, (H, W, C), without its alpha."""
    bands = COLORS.get(image.mode)
    modes = set(_raw_modes(image))
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    known = bands is not None and all(re.search(r";16[BLN]$", mode) for mode in modes)
    if not known or any("a" in mode for mode in modes) or tags.get(PLANAR) == SEPARATE:
        raise ValueError(
            f"has {max(_bits_per_sample(image), 16)} bits a color in a layout of which Pillow does "
            f"not read every bit ({image.format}, {', '.join(sorted(modes))}"
            f"{', separate planes' if tags.get(PLANAR) == SEPARATE else ''}); save it as PNG, or "
            "as TIFF with 16 bits, interleaved colors and no premultiplied alpha"
        )
    if modes == {"LA;16B"}:  # as if the two bytes of L and A were four colors
        both = np.asarray(_decoded(content, image.format, {"LA;16B": "RGBA"}))
        upper, lower = both[..., :1], both[..., 1:2]
    else:
        swapped = {mode: _other_byte(mode) for mode in modes}
        upper = np.asarray(_decoded(content, image.format, {}))[..., :bands]
        lower = np.asarray(_decoded(content, image.format, swapped))[..., :bands]
    samples: Samples = upper.astype(np.int64) << 8 | lower
    return samples


def _other_byte(mode: str) -> str:
    ends = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
    return mode[:-1] + ends[mode[-1]]


def _decoded(content: bytes, kind: str | None, modes: dict[str, str]) -> Image.Image:
    """Return an image decoded with other layouts of samples than those that Pillow chose."""
    image = Image.open(io.BytesIO(content), formats=[str(kind)])
    tiles: list[Any] = []
    for tile in getattr(image, "tile", ()):
        args = tile[3]
        args = modes.get(args, args) if isinstance(args, str) else (
            modes.get(args[0], args[0]), *args[1:],
        )  # fmt: skip
        is_named = hasattr(tile, "_replace")  # a plain tuple before Pillow 11
        tiles.append(tile._replace(args=args) if is_named else (*tile[:3], args))
    image.tile = tiles
    image.load()
    return image


def _ppm_maximum(image: Image.Image) -> int:
    """Return the largest sample that the head of a portable pixmap declares."""
    name, _, _, args = image.tile[0]  # type: ignore[attr-defined]
    if name in ("ppm", "ppm_plain") and image.mode != "1":
        return int(args[-1])
    return FULL if image.mode.startswith("I") else 255


def _ppm_samples(image: Image.Image, content: bytes, largest: int) -> Samples:
    """Return the samples of a portable pixmap as they are; Pillow stretches or cuts them."""
    name, _, offset, _ = image.tile[0]  # type: ignore[attr-defined]
    bands = 3 if image.mode == "RGB" else 1
    count = image.width * image.height * bands
    if name == "ppm_plain":
        text = re.sub(rb"#[^\r\n]*", b"", content[offset:]).split()
        samples = np.array([int(word) for word in text[:count]], dtype=np.int64)
    else:
        room = min(count, (len(content) - offset) // 2)
        samples = np.frombuffer(content, dtype=">u2", count=room, offset=offset).astype(np.int64)
    if len(samples) < count:
        raise ValueError(f"image file is truncated ({len(samples)} of {count} samples)")
    if count and samples.max() > largest:
        raise ValueError(f"holds the sample {samples.max()}, more than its head says ({largest})")
    return samples.reshape(image.height, image.width, bands)
