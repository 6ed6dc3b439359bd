"""Mean average precision of two detectors, as COCO's own tool computes it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from srinit.errors import require
from srinit.records import record

Rows = Sequence[npt.NDArray[np.float64]]
"""By image: (n, 6) box, score, class of detections; (n, 5) class, box of objects."""


@record
class AveragePrecision:
    """Of one detector; None: there is no object."""

    mean: float | None  # over overlaps from 0.5 to 0.95, and classes
    at_half: float | None  # at an overlap of 0.5, the mean over classes
    classes: dict[str, float | None]  # the same of every class


@record
class PrecisionChange:
    """Both detectors on the same images; what is sure is said by the interval of the score."""

    baseline: AveragePrecision
    pruned: AveragePrecision
    num_images: int
    tool: str  # that computed it, with its version


def average_precision(found: Rows, objects: Rows, names: Sequence[str]) -> AveragePrecision:
    """Return the mean average precision of detections, up to 100 an image.

    Source: COCO, https://cocodataset.org/#detection-eval, by `pycocotools`.

    Args:
        found: Detections of every image.
        objects: Those really there.
        names: Of the classes, the good one (nothing there) first.

    Raises:
        MissingExtraError: pycocotools is not installed.
    """
    require("pycocotools", "detection", "for mean average precision")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth: dict[str, Any] = {
        "images": [{"id": number} for number in range(len(objects))],
        "categories": [{"id": index} for index in range(1, len(names))],
        "annotations": [
            {"image_id": image, "category_id": int(row[0]), **_box(row[1:]), "iscrowd": 0}
            for image, rows in enumerate(objects)
            for row in rows
        ],
    }
    for number, annotation in enumerate(truth["annotations"], start=1):
        annotation["id"] = number  # 0 would count as no match
    answers = [
        {"image_id": image, "category_id": int(row[5]), "score": float(row[4]), **_box(row[:4])}
        for image, rows in enumerate(found)
        for row in rows
    ]
    if not truth["annotations"]:
        return AveragePrecision(mean=None, at_half=None, classes=dict.fromkeys(names[1:]))
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = truth
        reference.createIndex()
        table = np.zeros((10, 1, len(names) - 1))
        if answers:
            judged = COCOeval(reference, reference.loadRes(answers), "bbox")
            judged.evaluate()
            judged.accumulate()
            table = judged.eval["precision"][:, :, :, 0, 2]  # overlap, recall, class
    there = {int(row[0]) for rows in objects for row in rows}
    known = [index - 1 for index in sorted(there)]
    by_class = {
        name: float(table[0, :, index].mean()) if index in known else None
        for index, name in enumerate(names[1:])
    }
    return AveragePrecision(
        mean=float(table[:, :, known].mean()),
        at_half=float(table[0][:, known].mean()),
        classes=by_class,
    )


def tool() -> str:
    """Return what computes mean average precision, with its version."""
    return f"pycocotools {importlib.metadata.version('pycocotools')}"


def _box(corners: npt.NDArray[np.float64]) -> dict[str, Any]:
    left, top, right, bottom = (float(value) for value in corners)
    width, height = right - left, bottom - top
    return {"bbox": [left, top, width, height], "area": width * height}
