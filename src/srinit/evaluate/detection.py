"""Detection of objects: matched, missed and false ones of every image, each with its class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from srinit import modules
from srinit.errors import ConfigError, DataError
from srinit.evaluate.reading import FALSE, Mark, Reading, by_class, counted
from srinit.networks import COLUMNS, Pending

# B batch, M detections, K objects, H W space

OVERLAP = 0.5  # of a detection and an object that it matches: Pascal VOC's
Boxes = npt.NDArray[np.float64]  # n 4: x1, y1, x2, y2 in pixels of the input


@dataclass(frozen=True)
class Detection:
    """Objects of an image that are found, less what is falsely called, as a share of the objects.

    A detection that is sure enough matches an object of its class with which it overlaps by half
    (intersection over union); the surest choose first, and each object is matched once, as in
    Pascal VOC, https://doi.org/10.1007/s11263-009-0275-4. The score is (matched - false alarms) /
    objects, not below 0: CLEAR's accuracy of one image, Bernardin and Stiefelhagen 2008,
    https://doi.org/10.1155/2008/246309. An image without objects scores 1, or 0 with a false alarm.

    Outputs are those of `srinit.Detector`, (B, M, 6); targets (B, K, 5) hold class, x1, y1, x2, y2,
    of class 0 where there is nothing more.

    Attributes:
        class_names: The good one (nothing there) first.
        threshold: Detections less sure do not count.

    Example:
        >>> output = torch.tensor([[[0, 0, 4, 4, 0.9, 1], [8, 8, 9, 9, 0.8, 1]]])
        >>> target = torch.tensor([[[1.0, 0, 0, 4, 4], [1, 5, 5, 7, 7]]])
        >>> Detection()(output[:, :1], target), Detection()(output, target)
        (tensor([0.5000]), tensor([0.]))
    """

    class_names: tuple[str, ...] = ()
    threshold: float = 0.5

    def __call__(self, output: object, target: object) -> Tensor:
        """Return the score of every image.

        Raises:
            DataError: These are no detections, or no boxes.
        """
        rows, wanted = _fitted(output, target)
        return torch.tensor([self._matched(*each).score for each in zip(rows, wanted, strict=True)])

    def check(self, output: object) -> None:
        """Raise `DataError` unless a network gives detections, and the data have boxes."""
        if not _is_detections(output):
            raise DataError(
                "score: objects needs a detector (model: detector:NAME, or srinit.Detector around "
                f"what a py: factory makes); the model returns {_shape(output)}."
            )
        if not self.class_names:
            raise DataError("score: objects needs data with boxes: coco:, yolo: or voc:.")

    def loss(self, label_smoothing: float) -> Loss:
        """Return the sum of the network's own losses."""
        if label_smoothing:
            raise ConfigError("finetune.label_smoothing: a detector has losses of its own.")
        return Loss()

    def of_classes(self, names: Sequence[str], settings: Mapping[str, Any]) -> Detection:
        """Return the task with class names, and how sure a detection must be."""
        return replace(self, class_names=tuple(names), threshold=settings["threshold"])

    def read(self, output: object, target: object) -> Reading:
        """Return what is found in images, object by object."""
        rows, wanted = _fitted(output, target)
        images = [self._matched(*each) for each in zip(rows, wanted, strict=True)]
        counts = [
            {
                **by_class(image.found, self.class_names),
                FALSE: (float(len(image.alarms) > 0), 1.0),
            }
            for image in images
        ]
        return Reading(
            targets=np.array([image.label for image in images]),
            predictions=np.array([image.answer for image in images]),
            confidence=np.array([image.confidence for image in images]),
            evidence=rows[:, :, 4].max(1, initial=0.0),
            counts=counted({name: [row[name] for row in counts] for name in counts[0]}),
        )

    def marks(self, output: object, target: object, size: tuple[int, int]) -> Tensor:
        """Return frames of what is found, missed and called falsely (B, H, W)."""
        marks = torch.zeros(len(output), *size, dtype=torch.long)  # type: ignore[arg-type]
        for place, rows, wanted in zip(marks, *_fitted(output, target), strict=True):
            image = self._matched(rows, wanted)
            for boxes, mark in (
                (image.lost, Mark.LOST), (image.alarms, Mark.ALARM), (image.right, Mark.FOUND)
            ):  # fmt: skip
                place[torch.from_numpy(_frames(boxes, size))] = mark
        return marks

    def _matched(self, rows: Boxes, wanted: Boxes) -> _Image:
        wanted = wanted[wanted[:, 0] > 0]
        best = float(rows[:, 4].max(initial=0.0))
        rows = rows[(rows[:, 4] >= self.threshold) & (rows[:, 5] > 0)]
        labels, taken = wanted[:, 0].astype(int), np.zeros(len(wanted), dtype=bool)
        hits = np.zeros(len(rows), dtype=bool)
        shares = overlaps(rows[:, :4], wanted[:, 1:])
        for row in np.argsort(-rows[:, 4], kind="stable"):
            free = (labels == rows[row, 5]) & ~taken & (shares[row] >= OVERLAP)
            if free.any():
                taken[np.argmax(np.where(free, shares[row], -1))] = hits[row] = True
        answer = _of_largest(rows[:, 5], rows[:, :4])
        return _Image(
            label=_of_largest(labels, wanted[:, 1:]),
            answer=answer,
            confidence=best if answer else 1 - best,
            found=tuple(zip(labels.tolist(), taken.tolist(), strict=True)),
            right=rows[hits, :4],
            alarms=rows[~hits, :4],
            lost=wanted[~taken, 1:],
        )


@dataclass(frozen=True)
class _Image:
    label: int  # class of the largest object; 0: none
    answer: int  # class of the largest detection; 0: none
    confidence: float
    found: tuple[tuple[int, bool], ...]  # class of each object, and whether it was found
    right: Boxes  # detections that match
    alarms: Boxes  # those that match nothing
    lost: Boxes  # objects that nothing matches

    @property
    def score(self) -> float:
        if not self.found:
            return float(not len(self.alarms))
        return max(0.0, (len(self.right) - len(self.alarms)) / len(self.found))


def _of_largest(labels: npt.NDArray[Any], boxes: Boxes) -> int:
    """Return the class of the largest box; 0: there is none."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return int(labels[areas.argmax()]) if len(boxes) else 0


@dataclass(frozen=True)
class Loss:
    """The sum of a detector's own losses; of its answers in evaluation there is none."""

    def __call__(self, output: object, target: object) -> Tensor:
        """Return the loss of a batch.

        Raises:
            ConfigError: The output is that of evaluation, or of no detector.
        """
        if not isinstance(output, Pending) or not isinstance(target, Tensor):
            raise ConfigError(
                "a detector has losses in training mode alone (srinit.Detector), so that criteria "
                "by gradients (taylor) cannot be taken of it; choose another one."
            )
        place = output.images.device
        return output.loss(
            [
                {"boxes": rows[:, 1:].to(place), "labels": rows[:, 0].long().to(place)}
                for rows in (image[image[:, 0] > 0] for image in target)
            ]
        )


def overlaps(one: Boxes, other: Boxes) -> Boxes:
    """Return the intersection over union of boxes (n, 4) with others (m, 4), (n, m).

    Example:
        >>> overlaps(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2]])).round(2).tolist()
        [[0.33]]
    """
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    both = (high - low).clip(0).prod(2)
    area = [(each[:, 2:] - each[:, :2]).clip(0).prod(1) for each in (one, other)]
    either = area[0][:, None] + area[1][None] - both
    share: Boxes = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return share


def apart(one: Tensor, other: Tensor, threshold: float = 0.5) -> Tensor:
    """Return how far detections (B, M, 6) are from others: 1 - the score against these."""
    task, found = Detection(threshold=threshold), []
    for theirs, ours in zip(one.double().numpy(), other.double().numpy(), strict=True):
        sure = theirs[theirs[:, 4] >= threshold]
        found.append(1 - task._matched(ours, np.concatenate([sure[:, 5:], sure[:, :4]], 1)).score)
    return torch.tensor(found)


def detections(model: nn.Module, data: Iterable[tuple[Any, Any]]) -> list[Boxes]:
    """Return what a detector finds in every image, (n, 6) each: box, score, class."""
    device, found = modules.device_of(model), []
    with modules.untouched(model), torch.inference_mode():
        for inputs, _ in data:
            output = modules.call(model, modules.to_device(inputs, device))
            found += [rows[rows[:, 5] > 0] for rows in _fitted(output, None)[0]]
    return found


def _frames(boxes: Boxes, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    found = np.zeros(size, dtype=bool)
    for box in boxes:
        x1, y1, x2, y2 = (int(v) for v in np.clip(box, 0, [*size[::-1], *size[::-1]]))
        inner = found[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].copy()
        found[y1:y2, x1:x2] = True
        found[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = inner
    return found


def _is_detections(output: object) -> bool:
    return isinstance(output, Tensor) and output.ndim == 3 and output.shape[2] == COLUMNS


def _shape(output: object) -> str:
    return str(tuple(output.shape)) if isinstance(output, Tensor) else type(output).__name__


def _fitted(output: object, target: object) -> tuple[Boxes, Boxes]:
    """Return detections (B, M, 6) and objects (B, K, 5) as arrays; no target: no objects."""
    if not _is_detections(output):
        raise DataError(f"objects are read from detections (B, M, 6), found {_shape(output)}.")
    assert isinstance(output, Tensor)
    rows = output.detach().double().cpu().nan_to_num(0.0).numpy()
    if target is None:
        return rows, np.zeros((len(rows), 0, 5))
    if not isinstance(target, Tensor) or target.ndim != 3 or target.shape[2] != 5:
        raise DataError(f"objects are boxes (B, K, 5), found {_shape(target)}.")
    return rows, target.double().cpu().numpy()
