"""Masks of images: which belongs to which, what their values mean, how they become targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image

from srinit.class_names import canonical
from srinit.errors import DataError

VOID = 255  # of no class, where a mask has more than two values
GOOD, DEFECT = "good", "defect"
LOSSLESS = frozenset((".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".pbm"))
MOST_CLASSES = 32  # that are taken for meant without names

Mask = npt.NDArray[np.uint8]  # H W


def paired(
    images: Sequence[str], masks: Sequence[str], *, suffix: str, may_lack: bool
) -> tuple[dict[str, str | None], list[str]]:
    """Return the mask of every image, None for one without, and what fits nothing.

    Args:
        images: Paths below their folder.
        masks: Paths below theirs: the same, but for the ending of the file and `suffix`.
        suffix: What a mask's name has behind its image's.
        may_lack: An image without a mask is a good part.

    Example:
        >>> paired(["a/1.jpg", "2.jpg"], ["a/1_m.png"], suffix="_m", may_lack=True)
        ({'a/1.jpg': 'a/1_m.png', '2.jpg': None}, [])
    """
    problems: list[str] = []
    by_stem: dict[str, str] = {}
    for mask in masks:
        stem = _stem(mask)
        if PurePath(mask).suffix.lower() not in LOSSLESS:
            problems.append(f"{mask}: a mask must be saved without loss, as PNG is")
        elif not stem.endswith(suffix):
            problems.append(f"{mask}: does not end in {suffix!r} (data.masks.suffix)")
        elif by_stem.setdefault(stem.removesuffix(suffix), mask) != mask:
            problems.append(f"{mask}: is a second mask beside {by_stem[stem.removesuffix(suffix)]}")
    stems: dict[str, str] = {}
    for image in images:
        if stems.setdefault(_stem(image), image) != image:
            problems.append(f"{image} and {stems[_stem(image)]}: two images of one name, one mask")
    if not may_lack:
        problems += [
            f"{image}: has no mask; write data.masks.missing: good where that means no defect"
            for stem, image in stems.items()
            if stem not in by_stem
        ]
    alone = [mask for stem, mask in by_stem.items() if stem not in stems]
    problems += [f"{mask}: there is no image of this name" for mask in alone]
    return {image: by_stem.get(_stem(image)) for image in images}, problems


def _stem(path: str) -> str:
    return str(PurePath(path).with_suffix(""))


def read_mask(path: Path, size: tuple[int, int]) -> Mask:
    """Return the values of a mask.

    Args:
        path: The file.
        size: Height and width of its image.

    Raises:
        ValueError: It is no mask of that image.
    """
    with Image.open(path) as image:
        if (image.height, image.width) != size:
            raise ValueError(
                f"has {image.height}x{image.width} pixels (height x width), its image "
                f"{size[0]}x{size[1]}"
            )
        if image.mode not in ("1", "L", "P", "LA", "RGB", "RGBA"):
            raise ValueError(f"is an image of mode {image.mode}; save class numbers in 8 bits")
        values = np.asarray(image.convert("L") if image.mode == "1" else image)
        if values.ndim == 3:  # gray, saved as colors
            colors = values[..., :1] if image.mode == "LA" else values[..., :3]
            if (colors != colors[..., :1]).any():
                raise ValueError("is a picture in colors; save class numbers as one gray channel")
            values = colors[..., 0]
        return np.ascontiguousarray(values, dtype=np.uint8)


def values_of(
    masks: Mapping[str, Mask], classes: Sequence[str] | None, where: str
) -> tuple[tuple[str, ...], bool]:
    """Return the class names, and whether 255 is the defect; else it is of no class.

    Args:
        masks: By name.
        classes: Names of the values from 0 on, if they are given.
        where: For messages.

    Raises:
        DataError: Masks hold values that are no class.
    """
    seen = {name: np.bincount(mask.ravel(), minlength=256) > 0 for name, mask in masks.items()}
    values = np.flatnonzero(np.any([*seen.values()], axis=0)).tolist() if seen else [0]
    top = max((value for value in values if value != VOID), default=0)
    is_binary = top == 0 and VOID in values
    count = 2 if is_binary else max(top + 1, 2)
    given = None if classes is None or isinstance(classes, str) else tuple(map(canonical, classes))
    names = given or (GOOD, DEFECT if count == 2 else "1", *map(str, range(2, count)))
    unclear = is_binary and len(names) > 2
    if count > len(names) or len(names) < 2 or unclear or (given is None and count > MOST_CLASSES):
        odd = VOID if is_binary else top
        worst = next(name for name, each in seen.items() if each[odd])
        raise DataError(
            f"{where}: masks hold the values {', '.join(map(str, values[:12]))}"
            f"{' ...' if len(values) > 12 else ''}, and value {odd} of {worst} is none of "
            f"{len(names)} classes ({', '.join(names[:12])}). A mask holds class numbers, 0 for "
            "good and 255 for not scored, or 0 and 255 for a defect; pictures that were smoothed "
            "or saved with loss are no masks. Name all classes in data.classes, the good one first."
        )
    return names, is_binary


def prepared(mask: Mask, *, is_binary: bool, resized: Callable[[Image.Image], Mask]) -> Mask:
    """Return a mask as the network's input lies; a pixel is defective where any part of it is.

    So thin cracks stay whole when images are reduced.

    Args:
        mask: As it was read.
        is_binary: 255 is the defect.
        resized: Resizes and crops a picture, each pixel to the mean of what it covers.
    """

    def share(value: int) -> Mask:
        return resized(Image.fromarray(np.where(mask == value, 255, 0).astype(np.uint8)))

    void = share(VOID)
    if is_binary:
        return (void > 0).astype(np.uint8)
    ready = np.where(void > 127, VOID, 0).astype(np.uint8)
    most = np.zeros_like(void)
    for value in np.unique(mask[(mask > 0) & (mask != VOID)]):
        own = share(int(value))
        ready[own > most] = value
        most = np.maximum(most, own)
    return ready


def largest(mask: Mask) -> int:
    """Return the class from 1 on with the most pixels; 0 where there is none."""
    counts = np.bincount(mask.ravel(), minlength=256)
    counts[[0, VOID]] = 0
    return int(counts.argmax()) if counts.any() else 0
