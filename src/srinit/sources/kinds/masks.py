"""Images with masks: a second folder holds, for every image, a picture of what is defective."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from srinit.annotations import Mask, largest, paired, prepared, read_mask, values_of
from srinit.config import MasksSection
from srinit.errors import DataError
from srinit.pixels.pixels import input_pixels
from srinit.sources.examples import MarkedImages
from srinit.sources.kinds.folder import image_files
from srinit.sources.kinds.loaded import Loaded, raise_problems
from srinit.sources.preprocess import Preprocess


def masks(
    name: str,
    root: Path,
    classes: Sequence[str] | None,
    *,
    preprocess: Preprocess,
    settings: MasksSection,
) -> Loaded:
    """Return images with masks (N, H, W) of class indices, 0 where there is no defect.

    Args:
        name: `IMAGES:MASKS`, or a folder that holds `images` and `masks`.
        root: Folder that relative paths start from.
        classes: Names of the masks' values from 0 on, the good one first.
        preprocess: Masks are resized and cropped as images are.
        settings: How masks are named, and what an image without one means.

    Raises:
        DataError: No folder, images and masks that do not belong together, masks that cannot be
            read or hold other values; all of them are named.
        UnsafeError: A link leads out of a folder.
    """
    first, colon, second = name.rpartition(":")
    there = (first, second) if colon else (f"{name}/images", f"{name}/masks")
    (base, images, notes), (place, files, more) = (image_files("masks", n, root) for n in there)
    pairs, problems = paired(
        images, files, suffix=settings.suffix, may_lack=settings.missing == "good"
    )
    raise_problems(place, problems)
    raw: dict[str, Mask] = {}
    for image, mask in pairs.items():
        try:
            with Image.open(base / image) as opened:
                size = opened.height, opened.width
            raw[image] = np.zeros(size, np.uint8) if mask is None else read_mask(place / mask, size)
        except (ValueError, OSError, Image.DecompressionBombError) as error:
            problems.append(f"{mask or image}: {error}")
    raise_problems(place, problems)
    names, is_binary = values_of(raw, classes, str(place))
    resized = partial(
        input_pixels, size=preprocess.size, crop=preprocess.crop, channels=1, interpolation="box",
        bits=8,
    )  # fmt: skip
    ready = [
        prepared(each, is_binary=is_binary, resized=lambda i: resized(i)[0])
        for each in raw.values()
    ]
    if len({each.shape for each in ready}) > 1:
        raise DataError(f"{base}: images differ in size; write data.preprocess.size: [H, W].")
    bare = list(pairs.values()).count(None)
    if bare:
        notes += (f"{base}: {bare} images without a mask are taken for good ones",)
    if is_binary:
        notes += (f"{place}: masks hold 0 and 255; 255 is taken for a defect",)
    labels = np.array([largest(each) for each in ready])
    return Loaded(MarkedImages(base, images, np.stack(ready), labels), names, (*notes, *more))
