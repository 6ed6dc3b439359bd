"""Observes a network at work: its answers, features and inputs, on data or on the test set."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image
from torch import nn

from srinit import modules
from srinit.errors import DataError
from srinit.evaluate import PartTask, evaluate
from srinit.monitor import Observations, image_properties
from srinit.monitor.properties import PROPERTIES
from srinit.report.features import classifier_of, collect
from srinit.rng import generator, seed_for
from srinit.sources import DataSet
from srinit.sources.examples import EncodedImages, ImageExamples, ImageFiles
from srinit.store import sha256_bytes

MAX_FEATURES = 64  # more are projected at random, the same way every time

Floats = npt.NDArray[np.float64]


def observe(
    model: nn.Module,
    data: DataSet,
    *,
    batch_size: int = 64,
    unpruned: nn.Module | None = None,
    shadow: float = 1.0,
    seed: int = 0,
    task: PartTask | None = None,
) -> Observations:
    """Return what `model` says about some data, and what the data look like.

    Args:
        model: The network in operation; not changed.
        data: Examples, labeled or not.
        batch_size: Examples a batch.
        unpruned: Answers a share of the examples too, in its shadow.
        shadow: That share, drawn by `seed`.
        seed: Of the draw.
        task: Reads outputs that lie in images; what it says of whole parts is watched.

    Raises:
        DataError: The network does not choose one class an example.
    """
    targets = data.labels
    if targets is None:
        raise DataError("monitoring needs a network that chooses one class an example.")
    known = targets >= 0
    predictions, confidence = _answers(model, data, batch_size, task)
    right = np.where(known, predictions == targets, np.nan)
    agrees = None
    if unpruned is not None and shadow > 0:
        chosen = np.flatnonzero(
            np.random.default_rng(seed_for("shadow", seed)).random(len(data)) < shadow
        )
        agrees = np.full(len(data), np.nan)
        if len(chosen):
            theirs, _ = _answers(unpruned, data.subset(chosen.tolist()), batch_size, task)
            agrees[chosen] = theirs == predictions[chosen]
    return Observations(
        prediction=np.maximum(predictions, 0),
        confidence=confidence,
        features=_features(model, data, batch_size) if task is None else None,
        agrees=agrees,
        right=right if known.any() else None,
        **_properties(data),
    )


def order_of(data: DataSet, seed: int = 0) -> tuple[list[int], str]:
    """Return the examples in their order, each content once, and what it is the order of.

    "time" where every image tells when it was taken (Exif); else "content": by a hash of it, so
    that files that come class by class are shuffled, the same way every time. The times of files
    are not looked at: to copy them changes those.
    """
    ids, first = data.ids, dict[str, int]()
    for position, name in enumerate(ids):
        first.setdefault(name, position)
    positions = sorted(
        first.values(), key=lambda position: sha256_bytes(f"{seed} {ids[position]}".encode())
    )
    times = dict[int, str]()
    for position in positions:
        taken = _taken(data, position)
        if not taken:
            return positions, "content"
        times[position] = taken
    if len(set(times.values())) < 2:
        return positions, "content"
    return sorted(positions, key=times.__getitem__), "time"


def _taken(data: DataSet, position: int) -> str:
    """Return when a camera took an image, as it wrote it; empty where nothing says so."""
    examples = data.pool.examples
    if not isinstance(examples, ImageFiles | EncodedImages):
        return ""
    try:
        with Image.open(BytesIO(examples.content(data.indices[position]))) as image:
            tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
    except (OSError, ValueError):
        return ""
    moment = str(tags.get(ExifTags.Base.DateTimeOriginal, ""))
    return moment and f"{moment}.{tags.get(ExifTags.Base.SubsecTimeOriginal, '')}"


class _Unlabeled:
    """Batches whose targets are class 0, so that unlabeled data can be asked too."""

    def __init__(self, data: DataSet, batch_size: int) -> None:
        self.data, self.batch_size = data, batch_size

    def __iter__(self) -> Iterator[tuple[Any, torch.Tensor]]:
        for inputs, target in self.data.batches(self.batch_size):
            yield inputs, torch.zeros_like(target)


def _answers(
    model: nn.Module, data: DataSet, batch_size: int, task: PartTask | None
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return the class that is said of every example, and how surely."""
    if task is None:
        outcomes = evaluate(model, _Unlabeled(data, batch_size))
        return outcomes.predictions, outcomes.confidence
    device, read = modules.device_of(model), []
    with modules.untouched(model), torch.inference_mode():
        for inputs, _ in data.batches(batch_size):
            output = modules.call(model, modules.to_device(inputs, device))
            read.append(task.read(output, None))
    return (
        np.concatenate([each.predictions for each in read]),
        np.concatenate([each.confidence for each in read]),
    )


def _features(model: nn.Module, data: DataSet, batch_size: int) -> Floats | None:
    """Return what the layer that decides is given, (N, D); None if there is no such layer."""
    name = classifier_of(model, next(iter(data.batches(batch_size)))[0])
    if name is None:
        return None
    parts = [
        collect(model, (), [inputs], inputs_of=(name,))[name]
        for inputs, _ in data.batches(batch_size)
    ]
    found = np.concatenate(parts)
    if len(found) != len(data):
        return None
    return projected(found)


def projected(features: Floats) -> Floats:
    """Return features with at most 64 dimensions; distances are kept in the mean.

    Source: Johnson and Lindenstrauss' random projection.
    """
    size = features.shape[1]
    if size <= MAX_FEATURES:
        return features
    random = torch.randn(size, MAX_FEATURES, generator=generator("monitor.features", size))
    table: Floats = features @ (random.double().numpy() / MAX_FEATURES**0.5)
    return table


def _properties(data: DataSet) -> dict[str, Floats]:
    if not isinstance(data.pool.examples, ImageExamples):
        return {}
    rows = [image_properties(data.image(position)) for position in range(len(data))]
    return {name: np.array([row[name] for row in rows]) for name in PROPERTIES}


def to_arrays(found: Observations) -> dict[str, npt.NDArray[np.float64]]:
    """Return observations as arrays to store; `from_arrays` reads them back."""
    return {name: np.asarray(v) for name, v in vars(found).items() if v is not None}


def from_arrays(arrays: dict[str, npt.NDArray[np.float64]]) -> Observations:
    """Return what `to_arrays` made.

    Raises:
        DataError: An array is missing or has another length.
    """
    try:
        found = Observations(**{k: v for k, v in arrays.items() if k != "prediction"},
                             prediction=arrays["prediction"].astype(np.int64))  # fmt: skip
    except (TypeError, KeyError) as error:
        raise DataError(f"the monitoring baseline is damaged: {error}.") from None
    if any(len(value) != len(found) for value in arrays.values()):
        raise DataError("the monitoring baseline is damaged: its arrays differ in length.")
    return found
