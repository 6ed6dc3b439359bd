"""Images with boxes around objects: COCO, YOLO and Pascal VOC."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from srinit.annotations import boxes as files
from srinit.annotations.boxes import Marked, class_names, placed
from srinit.config import BoxesSection
from srinit.errors import DataError
from srinit.pixels.pixels import margins, resized
from srinit.sources.examples import MarkedImages
from srinit.sources.kinds.folder import image_files
from srinit.sources.kinds.loaded import (
    Loaded,
    file_at,
    is_file,
    outside,
    raise_outside,
    raise_problems,
)
from srinit.sources.preprocess import Preprocess

Size = tuple[int, int]
FOLDERS = {"yolo": ("images", "labels", ".txt"), "voc": ("JPEGImages", "Annotations", ".xml")}


def boxes(
    kind: Literal["coco", "yolo", "voc"],
    name: str,
    root: Path,
    classes: Sequence[str] | None,
    *,
    preprocess: Preprocess,
    settings: BoxesSection,
) -> Loaded:
    """Return images with boxes (N, K, 5): class from 1 on, x1, y1, x2, y2; class 0: no more.

    Args:
        kind: Whose files they are.
        name: `FILE` or `FILE:IMAGES` of COCO; else the folder.
        root: Folder that relative paths start from.
        classes: All names, the good one (nothing there) first.
        preprocess: Boxes are resized and cropped as images are.
        settings: What an image without boxes means.

    Raises:
        DataError: Files that cannot be read, or do not belong together; all of them are named.
        UnsafeError: Images lie beyond their folder.
    """
    found, base = _coco(name, root) if kind == "coco" else _folder(kind, name, root, classes,
                                                                   settings)  # fmt: skip
    names = class_names(found, classes, str(base))
    index = {each: number for number, each in enumerate(names)}
    ready, lost, problems = [], 0, found.problems
    for image, marks in found.images.items():
        try:
            size = _size(base, image)
            whole = resized(preprocess.size, *size)
            crop = preprocess.crop
            kept = whole if crop is None else (crop, crop) if isinstance(crop, int) else crop
            ready.append(placed(marks, index, size, whole, margins(*whole, *kept), kept))
            lost += len(marks) - len(ready[-1])
        except (ValueError, OSError, Image.DecompressionBombError) as error:
            problems.append(f"{image}: {error}")
    raise_problems(base, problems)
    notes = [*found.notes]
    if lost:
        notes.append(f"{base}: {lost} objects lie beyond the crop and were left out")
    targets = np.zeros((len(ready), max(map(len, ready), default=0), 5), dtype=np.float32)
    for row, each in zip(targets, ready, strict=True):
        row[: len(each)] = each
    areas = (targets[:, :, 3] - targets[:, :, 1]) * (targets[:, :, 4] - targets[:, :, 2])
    labels = np.array(
        [int(row[area.argmax(), 0]) if row.size else 0 for row, area in zip(targets, areas,
                                                                            strict=True)]
    )  # fmt: skip
    return Loaded(MarkedImages(base, [*found.images], targets, labels), names, tuple(notes))


def _coco(name: str, root: Path) -> tuple[Marked, Path]:
    if is_file(root / name):
        path, place = file_at("coco", name, root), None
    else:
        first, _, second = name.rpartition(":")
        path, place = file_at("coco", first or name, root), (root / second).absolute()
    base = place or (path.parent / "images" if (path.parent / "images").is_dir() else path.parent)
    found = files.coco(path)
    raise_outside(path, [image for image in found.images if outside(base, base / image)])
    found.problems += [f"{image}: there is no such file in {base}" for image in found.images
                       if not is_file(base / image)]  # fmt: skip
    raise_problems(path, found.problems)
    if not found.images:
        raise DataError(f"{path} holds no images.")
    return found, base


def _folder(
    kind: str, name: str, root: Path, classes: Sequence[str] | None, settings: BoxesSection
) -> tuple[Marked, Path]:
    images, marks, ending = FOLDERS[kind]
    if not (root / name / images).is_dir():
        images = "images"
    base, listed, notes = image_files(kind, f"{name}/{images}", root)
    place = (root / name / marks).absolute()
    if not place.is_dir():
        raise DataError(f"{kind}:{name}: the folder {place} does not exist.")
    labels = sorted(
        str(Path(top, each).relative_to(place))
        for top, _, inside in os.walk(place)
        for each in inside
        if each.lower().endswith(ending)
    )
    lack = settings.missing == "good"
    given = None if classes is None or isinstance(classes, str) else [*classes][1:]
    size_of: Callable[[str], Size] = partial(_size, base)
    found = (
        files.yolo(place, listed, labels, size_of, names=given, may_lack=lack)
        if kind == "yolo"
        else files.voc(place, listed, labels, may_lack=lack)
    )
    found.notes += notes
    return found, base


def _size(base: Path, image: str) -> Size:
    with Image.open(base / image) as opened:
        return opened.height, opened.width
