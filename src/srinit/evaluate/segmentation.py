"""Segmentation of defects: overlap of every image, missed and falsely called pixels and defects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from srinit.errors import DataError
from srinit.evaluate.losses import CrossEntropy
from srinit.evaluate.reading import FALSE, Mark, Reading, by_class, counted
from srinit.evaluate.scorers import predicted, scored
from srinit.evaluate.targets import VOID, check_range, class_indices, num_classes
from srinit.padding import IGNORED

# B batch, C classes (0: no defect), H W space

Mask = npt.NDArray[np.int64]  # H W
AROUND = np.ones((3, 3))  # pixels that touch, also by a corner, are one defect


@dataclass(frozen=True)
class Segmentation:
    """Overlap of called and real defect pixels of an image: the mean over its defect classes.

    The classes are those in its target or its prediction, but 0, which is no defect. An image
    without defects scores 1 where none is called, else 0: the overlap of two empty sets is taken as
    whole, as the usual tools do (`torchmetrics`: `empty_target_action`). Targets of 255 or -100 are
    not scored; coarser logits are enlarged.

    Sources: Jaccard (1912) and Pascal VOC, https://doi.org/10.1007/s11263-009-0275-4, for IoU; Dice
    (1945), https://doi.org/10.2307/1932409.

    Attributes:
        measure: Intersection over union, or Dice: twice the intersection over the sum.
        class_names: The good one first.
        min_area: Called spots of fewer pixels are no defects; real ones always are.

    Example:
        >>> logits = torch.tensor([[[[0.0, 0.0, 0.0, 0.0]], [[1.0, 1.0, -1.0, -1.0]]]])
        >>> Segmentation()(logits, torch.tensor([[[1, 0, 0, 255]]]))
        tensor([0.5000])
    """

    measure: Literal["iou", "dice"] = "iou"
    class_names: tuple[str, ...] = ()
    min_area: int = 1

    def __call__(self, output: object, target: object) -> Tensor:
        """Return the score of every image.

        Raises:
            DataError: Logits are not (B, C, H, W), or targets no masks (B, H, W).
        """
        logits, wanted = _fitted(output, target)
        return self._overlap(_confusion(predicted(logits), wanted, num_classes(logits)))

    def _overlap(self, table: Tensor) -> Tensor:
        both = table.diagonal(dim1=1, dim2=2)[:, 1:].double()
        sums = (table.sum(1) + table.sum(2))[:, 1:].double()
        present = sums > 0
        share = 2 * both / sums if self.measure == "dice" else both / (sums - both)
        count = present.sum(1)
        mean = torch.where(present, share, 0.0).sum(1) / count.clamp(min=1)
        return torch.where(count > 0, mean, 1.0).float()

    def check(self, output: object) -> None:
        """Raise `DataError` unless a network gives one logit a pixel and class."""
        logits = scored(output, "segmentation")
        names = self.class_names
        if logits.ndim != 4:
            raise DataError(
                f"segmentation needs logits (B, C, H, W), and the model returns "
                f"{tuple(logits.shape)}: it is no segmentation network."
            )
        if not names:
            raise DataError(
                "segmentation needs data with masks and named classes: masks:IMAGES:MASKS."
            )
        if num_classes(logits) != len(names):
            raise DataError(
                f"the masks have {len(names)} classes ({', '.join(names[:12])}), but the model has "
                f"{logits.shape[1]} outputs a pixel. Name the right data, or all classes in "
                "data.classes, the good one first."
            )

    def loss(self, label_smoothing: float) -> CrossEntropy:
        """Return the cross entropy of pixels."""
        return CrossEntropy(label_smoothing=label_smoothing)

    def marks(self, output: object, target: object, size: tuple[int, int]) -> Tensor:
        """Return what is found, missed and called falsely, pixel by pixel (B, H, W)."""
        logits, wanted = _fitted(output, target)
        real, called = wanted > 0, predicted(logits) > 0
        marks = torch.where(real & called, Mark.FOUND, Mark.NOTHING)
        marks[real & ~called], marks[called & ~real] = Mark.LOST, Mark.ALARM
        marks[(wanted == VOID) | (wanted == IGNORED)] = Mark.NOTHING
        return marks

    def of_classes(self, names: Sequence[str], settings: Mapping[str, Any]) -> Segmentation:
        """Return the task with class names, and with what counts as a spot."""
        return replace(self, class_names=tuple(names), min_area=settings["min_area"])

    def read(self, output: object, target: object) -> Reading:
        """Return what is called in images, pixel by pixel and defect by defect.

        A defect is a connected group of pixels (`scipy.ndimage.label`, corners count). It is found
        where a called spot touches it, and a called spot that touches none is a false alarm.
        """
        logits, wanted = _fitted(output, target)
        known = (wanted != VOID) & (wanted != IGNORED)
        finite = torch.isfinite(logits).flatten(1).all(1)
        guess = torch.where(finite[:, None, None] & known, predicted(logits), 0)
        defect = _defect_probability(logits).flatten(1).amax(1).nan_to_num(0.0)
        dice = replace(self, measure="dice")._overlap(
            _confusion(guess, wanted, num_classes(logits))
        )
        arrays = [
            part.cpu().numpy() for part in (guess, torch.where(known, wanted, 0), known, defect)
        ]
        rows = [self._image(*image) for image in zip(*arrays, strict=True)]
        columns = {name: [row[2][name] for row in rows] for name in rows[0][2]}
        return Reading(
            targets=np.array([row[0] for row in rows]),
            predictions=np.array([row[1][0] for row in rows]),
            confidence=np.array([row[1][1] for row in rows]),
            evidence=arrays[3].astype(np.float64),
            counts=counted({**columns, "dice": [(value, 1.0) for value in dice.tolist()]}),
        )

    def _image(
        self, called: Mask, real: Mask, known: npt.NDArray[np.bool_], defect: float
    ) -> tuple[int, tuple[int, float], dict[str, Any]]:
        """Return what is on an image: the class of the part, the answer, the counts."""
        from scipy import ndimage  # here: to import it takes long

        spots, num_spots = ndimage.label(called > 0, structure=AROUND)
        areas = np.bincount(spots.ravel(), minlength=num_spots + 1)
        kept = np.flatnonzero(areas >= self.min_area)[1 if areas[0] >= self.min_area else 0 :]
        shown = np.isin(spots, kept)
        defects, num_defects = ndimage.label(real > 0, structure=AROUND)
        touched = set(np.unique(defects[shown]).tolist())
        found = [
            (_largest(real[defects == number]), number in touched)
            for number in range(1, num_defects + 1)
        ]
        alarms = set(kept.tolist()) - set(np.unique(spots[real > 0]).tolist())
        bad, good = real > 0, (real == 0) & known
        counts: dict[str, Any] = {
            **by_class(found, self.class_names),
            FALSE: (float(bool(alarms)), 1.0),
            "missed_pixels": (float((bad & (called == 0)).sum()), float(bad.sum())),
            "false_pixels": (float((good & (called > 0)).sum()), float(good.sum())),
        }
        answer = _largest(called[shown])
        return _largest(real[bad]), (answer, float(defect if answer else 1 - defect)), counts


def _largest(values: Mask) -> int:
    """Return the class from 1 on with the most pixels; 0 where there is none."""
    counts = np.bincount(values, minlength=2)
    counts[0] = 0
    return int(counts.argmax()) if counts.any() else 0


def _fitted(output: object, target: object) -> tuple[Tensor, Tensor]:
    """Return logits and class indices of the same pixels."""
    logits = scored(output, "segmentation")
    if target is None and logits.ndim == 4:
        target = torch.zeros_like(logits[:, 0], dtype=torch.long)
    if logits.ndim != 4 or not isinstance(target, Tensor) or target.ndim not in (3, 4):
        shape = tuple(target.shape) if isinstance(target, Tensor) else type(target).__name__
        raise DataError(
            f"segmentation needs logits (B, C, H, W) and masks (B, H, W), found "
            f"{tuple(logits.shape)} and {shape}."
        )
    wanted = class_indices(logits, target)
    known = wanted[(wanted != VOID) & (wanted != IGNORED)]
    if known.numel():
        check_range(int(known.min()), int(known.max()), num_classes(logits))
    if logits.shape[2:] != wanted.shape[1:]:
        logits = F.interpolate(logits.float(), size=wanted.shape[1:], mode="bilinear")
    return logits, wanted


def _confusion(guess: Tensor, wanted: Tensor, size: int) -> Tensor:
    """Return how many pixels of each class are called what, (B, real, called)."""
    known = (wanted != VOID) & (wanted != IGNORED)
    image = torch.arange(len(wanted), device=wanted.device)[:, None, None]
    index = ((image * size + wanted) * size + guess)[known]
    return torch.bincount(index, minlength=len(wanted) * size * size).view(-1, size, size)


def _defect_probability(logits: Tensor) -> Tensor:
    """Return the probability of a defect at every pixel (B, H, W)."""
    if logits.shape[1] == 1:
        return logits[:, 0].float().sigmoid()
    return 1 - logits.float().softmax(1)[:, 0]
