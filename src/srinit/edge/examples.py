"""What a package is checked on: answers of its model files on test images, ten of them shipped."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from srinit.edge.records import Answers
from srinit.pixels.images import FORMATS, open_image, to_channels
from srinit.runtimes import ModelFile
from srinit.sources import DataSet
from srinit.sources.examples import ImageExamples

COMPARED, SHIPPED = 1000, 10  # examples whose answers are compared; those that a package holds
BATCH = 64

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def chosen_positions(test: DataSet) -> list[int]:
    """Return the positions of examples to compare answers on: at most 1,000, by their hashes."""
    ids = test.ids
    return sorted(range(len(ids)), key=ids.__getitem__)[:COMPARED]


def file_logits(path: Path, data: DataSet) -> Floats:
    """Return what a model file answers on a data set, shape (N, classes); one logit as two."""
    file, parts = ModelFile(path), []
    for inputs, _ in data.batches(BATCH):
        logits = np.asarray(file({file.names[0]: inputs.numpy()}), np.float64)
        logits = logits.reshape(len(inputs), -1)
        parts.append(np.pad(logits, ((0, 0), (1, 0))) if logits.shape[1] == 1 else logits)
    return np.concatenate(parts)


def confidence_of(logits: Floats) -> Floats:
    """Return the softmax probability of the largest logit of each row.

    Example:
        >>> confidence_of(np.array([[0.0, 0.0], [0.0, 40.0]])).round(3).tolist()
        [0.5, 1.0]
    """
    shares = np.exp(logits - logits.max(1, keepdims=True))
    found: Floats = shares.max(1) / shares.sum(1)
    return found


def compared(file: str, logits: Floats, predictions: Ints, confidence: Floats) -> Answers:
    """Return how a file's answers stand to those of the run's network on the same examples."""
    apart = np.abs(confidence_of(logits) - confidence)
    return Answers(
        file=file,
        num_examples=len(logits),
        num_equal=int((logits.argmax(1) == predictions).sum()),
        max_confidence_difference=float(apart.max(initial=0.0)),
    )


def spread(predictions: Ints, sure: npt.NDArray[np.bool_], count: int = SHIPPED) -> list[int]:
    """Return at most `count` positions among the sure ones, of every class in turn.

    Example:
        >>> spread(np.array([0, 0, 1, 0]), np.array([True, True, True, False]), 2)
        [0, 2]
    """
    seen: dict[int, int] = {}
    ranked = []
    for position in np.flatnonzero(sure).tolist():
        kind = int(predictions[position])
        seen[kind] = seen.get(kind, 0) + 1
        ranked.append((seen[kind], position))
    return sorted(position for _, position in sorted(ranked)[:count])


def image_file(data: DataSet, position: int) -> tuple[str, bytes]:
    """Return one example as an image file: its ending and its bytes.

    The bytes are the example's own where it is a file; arrays become PNG of the same pixels.
    """
    examples, index, how = data.pool.examples, data.indices[position], data.pool.preprocess
    assert isinstance(examples, ImageExamples)
    content = examples.content(index)
    wanted = data.pool.pixels([index])[0].numpy()
    try:
        if np.array_equal(how.pixels(open_image(content, how.bits)), wanted):
            return _ending(content), content
    except ValueError:  # no encoded image
        pass
    buffer = io.BytesIO()
    to_channels(examples.image(index, how.bits), how.channels, how.bits).save(buffer, "PNG")
    return ".png", buffer.getvalue()


def _ending(content: bytes) -> str:
    with Image.open(io.BytesIO(content)) as image:
        return FORMATS.get(str(image.format), (".jpg",))[0]  # MPO holds JPEG


def named(files: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return example files with their names in a package.

    Example:
        >>> named([(".png", b"")])
        [('examples/01.png', b'')]
    """
    return [(f"examples/{n:02d}{ending}", content) for n, (ending, content) in enumerate(files, 1)]
