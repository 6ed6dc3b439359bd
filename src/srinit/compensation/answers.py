"""How far answers are from the unpruned network's, example by example, without labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from srinit import modules
from srinit.errors import CompensationError
from srinit.evaluate.detection import apart

Measure = Literal["probabilities", "squared", "detections"]
Floats = npt.NDArray[np.float64]


def answers(model: nn.Module, batches: Iterable[Any]) -> list[Tensor]:
    """Return what a network answers to batches of inputs, in evaluation mode, on the CPU."""
    device = modules.device_of(model)
    with modules.eval_mode(model), torch.no_grad():
        return [
            modules.logits_of(modules.call(model, modules.to_device(batch, device))).float().cpu()
            for batch in batches
        ]


def divergence(
    theirs: Sequence[Tensor], ours: Sequence[Tensor], batches: Sequence[Any], measure: Measure
) -> Floats:
    """Return per example how far answers are from the unpruned network's.

    Args:
        theirs: Of the unpruned network, by batch.
        ours: Of the other one.
        batches: The inputs; places where their attention mask is 0 do not count.
        measure: "probabilities": total variation distance of the class probabilities, in [0, 1]
            (classes are the second dimension of pictures and plain classes, the last of tokens),
            averaged over places. It is bounded, so that few examples tell.
            "detections": 1 minus the score of detections, held to the unpruned network's.
            "squared": squared distance relative to the square of the unpruned network's answer.

    Raises:
        CompensationError: The two networks' answers have other shapes.
    """
    found = []
    for one, other, batch in zip(theirs, ours, batches, strict=True):
        if one.shape != other.shape:
            raise CompensationError(
                f"the cut network answers in shape {tuple(other.shape)}, the unpruned one in "
                f"{tuple(one.shape)}; they cannot be compared."
            )
        found.append(_of_batch(one, other, batch, measure).double().numpy())
    return np.concatenate(found)


def _of_batch(one: Tensor, other: Tensor, batch: object, measure: Measure) -> Tensor:
    if measure == "detections":
        return apart(one, other)
    if one.ndim == 1:
        one, other = one[:, None], other[:, None]
    if measure == "squared":
        flat, difference = one.flatten(1), (one - other).flatten(1)
        return difference.pow(2).sum(1) / flat.pow(2).sum(1).clamp(min=1e-12)
    if one.shape[1] == 1:  # one logit: yes or no
        return (one.sigmoid() - other.sigmoid()).abs().flatten(1).mean(1)
    axis = 1 if one.ndim != 3 else 2
    places = 0.5 * (one.softmax(axis) - other.softmax(axis)).abs().sum(axis)
    if places.ndim == 1:
        return places
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if isinstance(mask, Tensor) and mask.shape == places.shape:
        weights = mask.to(places.device, places.dtype)
        return (places * weights).sum(1) / weights.sum(1).clamp(min=1)
    return places.flatten(1).mean(1)
