"""Boxes around objects, as the files of common tools hold them: COCO, YOLO, Pascal VOC."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from srinit.class_names import canonical
from srinit.config.yaml import parse_yaml
from srinit.errors import DataError

GOOD = "good"
MOST_BYTES = 1 << 30  # of a file of boxes
Box = tuple[str, float, float, float, float]  # class, x1, y1, x2, y2 in pixels of the image
Size = tuple[int, int]  # height, width


@dataclass
class Marked:
    """Images with their objects, and what is odd about the files."""

    images: dict[str, list[Box]] = field(default_factory=dict)  # by path below the image folder
    names: tuple[str, ...] = ()  # of classes in the order of the tool; empty: it has none
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def coco(path: Path) -> Marked:
    """Return what a COCO file holds, https://cocodataset.org/#format-data; crowds are left out.

    Raises:
        DataError: It is no such file.
    """
    try:
        body = json.loads(_content(path))
        ids = {row["id"]: canonical(str(row["name"])) for row in body["categories"]}
        files = {row["id"]: str(row["file_name"]) for row in body["images"]}
        found = Marked(
            {name: [] for name in files.values()}, tuple(ids[key] for key in sorted(ids))
        )
        crowds = 0
        for number, row in enumerate(body["annotations"]):
            if row.get("iscrowd"):
                crowds += 1
                continue
            left, top, width, height = (float(value) for value in row["bbox"])
            if row["image_id"] not in files or row["category_id"] not in ids:
                found.problems.append(f"annotation {number}: of no image or of no category")
                continue
            box = (ids[row["category_id"]], left, top, left + width, top + height)
            found.images[files[row["image_id"]]].append(box)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no COCO file: {type(error).__name__}: {error}; it holds images, "
            "annotations with bbox, and categories."
        ) from None
    if len(found.images) < len(files):
        found.problems.append("two images of one file_name")
    if crowds:
        found.notes.append(f"{path}: {crowds} annotations of crowds were left out")
    return found


def yolo(
    folder: Path, images: Sequence[str], labels: Sequence[str], size_of: Callable[[str], Size],
    *, names: Sequence[str] | None, may_lack: bool,
) -> Marked:  # fmt: skip
    """Return what a YOLO folder holds: a text file an image, lines `class x y width height`.

    Coordinates are shares of the image, x and y the middle,
    https://docs.ultralytics.com/datasets/detect.

    Args:
        folder: Of the text files.
        images: Paths of images below theirs.
        labels: Paths of text files below `folder`.
        size_of: Returns height and width of an image.
        names: Of the classes; None: as `data.yaml` or `classes.txt` beside the folder says.
        may_lack: An image without a file is one without objects.

    Raises:
        DataError: Nothing names the classes.
    """
    found = Marked(names=tuple(names) if names else _yolo_names(folder.parent))

    def read(path: Path, image: str) -> list[Box]:
        height, width = size_of(image)
        boxes: list[Box] = []
        for line in path.read_text("utf-8").splitlines():
            if not (cells := line.split()):
                continue
            if len(cells) != 5:
                raise ValueError(f"holds a line of {len(cells)} numbers, not 5: {line[:40]!r}")
            x, y, w, h = (float(cell) for cell in cells[1:])
            index = int(cells[0])
            if not (0 <= index < len(found.names) and 0 <= min(x, y, w, h) <= max(x, y, w, h) <= 1):
                raise ValueError(
                    f"holds another class, or coordinates beyond 0 to 1: {line[:40]!r}"
                )
            boxes.append((found.names[index], (x - w / 2) * width, (y - h / 2) * height,
                          (x + w / 2) * width, (y + h / 2) * height))  # fmt: skip
        return boxes

    _by_stem(found, folder, images, labels, read, may_lack=may_lack)
    return found


def voc(folder: Path, images: Sequence[str], labels: Sequence[str], *, may_lack: bool) -> Marked:
    """Return what a folder of Pascal VOC holds: an XML file an image; difficult ones are left out.

    Coordinates count pixels from 1, https://doi.org/10.1007/s11263-009-0275-4.

    Args:
        folder: Of the XML files.
        images: Paths of images below theirs.
        labels: Paths of XML files below `folder`.
        may_lack: An image without a file is one without objects.
    """
    found, difficult = Marked(), 0

    def read(path: Path, _: str) -> list[Box]:
        nonlocal difficult
        content = _content(path)
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise ValueError("declares a document type or entities; that is refused")
        boxes: list[Box] = []
        for row in ElementTree.fromstring(content).iter("object"):
            if (row.findtext("difficult") or "0").strip() == "1":
                difficult += 1
                continue
            name, box = row.findtext("name"), row.find("bndbox")
            if name is None or box is None:
                raise ValueError("holds an object without name or bndbox")
            ends = [float(box.findtext(key) or "nan") for key in ("xmin", "ymin", "xmax", "ymax")]
            boxes.append((canonical(name.strip()), ends[0] - 1, ends[1] - 1, ends[2], ends[3]))
        return boxes

    _by_stem(found, folder, images, labels, read, may_lack=may_lack)
    if difficult:
        found.notes.append(f"{folder}: {difficult} objects marked as difficult were left out")
    return found


def _by_stem(
    found: Marked, folder: Path, images: Sequence[str], labels: Sequence[str],
    read: Callable[[Path, str], list[Box]], *, may_lack: bool,
) -> None:  # fmt: skip
    """Read the file of every image, found by its name; what fits nothing is a problem."""
    by_stem = {_stem(name): name for name in labels}
    stems = [_stem(name) for name in images]
    bare = 0
    for stem, image in zip(stems, images, strict=True):
        found.images[image] = []
        if stems.count(stem) > 1 and stems.index(stem) != images.index(image):
            found.problems.append(f"{image}: a second image of one name")
        elif stem in by_stem:
            try:
                found.images[image] = read(folder / by_stem[stem], image)
            except (ValueError, OSError, ElementTree.ParseError) as error:
                found.problems.append(f"{by_stem[stem]}: {error}")
        elif may_lack:
            bare += 1
        else:
            found.problems.append(
                f"{image}: has no file of boxes; write data.boxes.missing: good where that means "
                "no object"
            )
    alone = [name for stem, name in by_stem.items() if stem not in set(stems)]
    found.problems += [f"{name}: there is no image of this name" for name in alone]
    if bare:
        found.notes.append(f"{folder}: {bare} images without a file of boxes hold no object")


def _stem(name: str) -> str:
    return str(PurePath(name).with_suffix(""))


def _yolo_names(folder: Path) -> tuple[str, ...]:
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (folder / name).is_file():
            try:
                names = parse_yaml(_content(folder / name), where=str(folder / name))["names"]
                listed = [names[key] for key in sorted(names)] if isinstance(names, dict) else names
                return tuple(canonical(str(each)) for each in listed)
            except (KeyError, TypeError) as error:
                raise DataError(f"{folder / name} names no classes: {error}.") from None
    for name in ("classes.txt", "obj.names"):
        if (folder / name).is_file():
            lines = _content(folder / name).decode("utf-8").splitlines()
            return tuple(canonical(line.strip()) for line in lines if line.strip())
    raise DataError(
        f"{folder} has neither data.yaml nor classes.txt; name the classes in data.classes, after "
        "the good one."
    )


def _content(path: Path) -> bytes:
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"the file is larger than {MOST_BYTES:,} bytes")
    return path.read_bytes()


def class_names(found: Marked, classes: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """Return all classes, the good one (nothing there) first.

    Args:
        found: What the files hold.
        classes: All names in the order of the model's outputs, the good one first, if given.
        where: For messages.

    Raises:
        DataError: The order is unknown, or an object is of none of them.
    """
    seen = sorted({box[0] for boxes in found.images.values() for box in boxes})
    given = None if classes is None or isinstance(classes, str) else tuple(map(canonical, classes))
    if given is None and not found.names and len(seen) > 1:
        raise DataError(
            f"{where}: the files do not say in which order the network knows the classes "
            f"{', '.join(seen[:12])}; write data.classes, the good one first."
        )
    names = given or (GOOD, *(found.names or seen or ("object",)))
    unknown = [name for name in seen if name not in names[1:]]
    if unknown or len(set(names)) < len(names):
        raise DataError(
            f"{where}: {f'class {unknown[0]!r}' if unknown else 'a name twice'}, with the classes "
            f"{', '.join(names[:12])}. data.classes lists the good one, then all others in the "
            "order of the network's outputs."
        )
    return names


def placed(
    boxes: Sequence[Box], index: Mapping[str, int], size: Size, resized: Size,
    margins: tuple[int, int], kept: Size,
) -> npt.NDArray[np.float32]:  # fmt: skip
    """Return boxes as the network's input lies, (n, 5): class, x1, y1, x2, y2.

    What the crop cuts off goes; a box of which nothing is left is left out.

    Args:
        boxes: Of an image.
        index: Class by name.
        size: Of the image.
        resized: Of the image before the crop.
        margins: What the crop takes off at the top and at the left.
        kept: Of the crop.

    Raises:
        ValueError: A box lies beyond its image, or has no area.
    """
    rows: list[Any] = []
    for name, *ends in boxes:
        x1, y1, x2, y2 = ends
        if not (x2 > x1 >= -1 and y2 > y1 >= -1 and x2 <= size[1] + 1 and y2 <= size[0] + 1):
            raise ValueError(f"holds a box of no area or beyond the image: {name} {ends}")
        across, down = resized[1] / size[1], resized[0] / size[0]
        x1, x2 = (np.clip(x * across - margins[1], 0, kept[1]) for x in (x1, x2))
        y1, y2 = (np.clip(y * down - margins[0], 0, kept[0]) for y in (y1, y2))
        if x2 - x1 > 0 and y2 - y1 > 0:
            rows.append((index[name], x1, y1, x2, y2))
    return np.array(rows, dtype=np.float32).reshape(-1, 5)
