"""Answers that lie in images, drawn into them: what is found, missed and called falsely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from srinit import modules
from srinit.evaluate import PartTask
from srinit.evaluate.reading import Mark
from srinit.report import images
from srinit.report.samples import class_name, pixels_of
from srinit.runs.pictures import Overlay, Pictures
from srinit.sources import DataSet

# Colors that people who see few colors tell apart: Okabe and Ito, https://jfly.uni-koeln.de/color
COLORS = {
    Mark.FOUND: (0, 158, 115),
    Mark.LOST: (240, 228, 66),
    Mark.ALARM: (204, 121, 167),
}
STRENGTH = 0.6  # of a color over the gray picture


def make_overlays(
    baseline: nn.Module,
    pruned: nn.Module,
    *,
    task: PartTask,
    data: DataSet,
    changed: tuple[Sequence[int], Sequence[int]],
    count: int,
) -> Pictures:
    """Return images with what both networks call in them; neither network is changed.

    Args:
        baseline: The unpruned network.
        pruned: The pruned one.
        task: Reads their outputs.
        data: Examples, not none.
        changed: Positions of those whose score fell and rose, the most first.
        count: Images: those that lost most, those that gained most, and one of each class.
    """
    if not data.pool.holds_images:
        return Pictures(missing=("no_images",))
    labels = data.labels
    assert labels is not None
    worst, best = changed
    firsts = [int(np.flatnonzero(labels == label)[0]) for label in np.unique(labels)]
    order = [*worst[: count // 2], *best[: count // 4], *firsts, *range(len(data))]
    overlays = []
    for position in list(dict.fromkeys(order))[:count]:
        before = _drawn(baseline, task, data, position)
        after = _drawn(pruned, task, data, position)
        if before is None or after is None:
            return Pictures(missing=("no_marks",))
        overlays.append(
            Overlay(
                position=position,
                label=class_name(data.class_names, int(labels[position])),
                picture=images.encoded(_enlarged(pixels_of(data, position))),
                baseline=images.encoded(before[0]),
                pruned=images.encoded(after[0]),
                score_baseline=before[1],
                score_pruned=after[1],
            )
        )
    return Pictures(overlays=tuple(overlays), missing=("places",))


def _drawn(
    model: nn.Module, task: PartTask, data: DataSet, position: int
) -> tuple[images.Bytes, float] | None:
    """Return an image with what a network calls in it, and its score; None: nothing to draw."""
    inputs, target = next(iter(data.subset([position]).batches(1)))
    size = (int(inputs.shape[2]), int(inputs.shape[3]))
    with modules.untouched(model), torch.inference_mode():
        output = modules.call(model, modules.to_device(inputs, modules.device_of(model)))
        score = float(task(output, target)[0])
        marks = task.marks(output, target, size)
    if marks is None:
        return None
    pixels = _enlarged(pixels_of(data, position))
    gray = pixels.mean(axis=2) if pixels.ndim == 3 else pixels.astype(float)
    factor = gray.shape[0] // size[0]
    colored = np.repeat(gray[..., None], 3, axis=2)
    for mark, color in COLORS.items():
        place = (marks[0].cpu().numpy() == mark).repeat(factor, axis=0).repeat(factor, axis=1)
        colored[place] = (1 - STRENGTH) * colored[place] + STRENGTH * np.array(color)
    return colored.astype(np.uint8), score


def _enlarged(pixels: images.Bytes) -> images.Bytes:
    factor = max(1, images.SHARP // max(pixels.shape[:2]))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
