"""Some examples of a source, with content hashes, served in batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from srinit.errors import DataError
from srinit.pixels.images import to_channels
from srinit.rng import generator
from srinit.sources.augment import Augment, Drawn
from srinit.sources.examples import ImageExamples
from srinit.sources.pool import Pool


@dataclass(frozen=True)
class DataSet:
    """Some examples of a pool, in a fixed order; positions count from 0."""

    pool: Pool
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Any, Any]:
        """Return one example as the model takes it, without a batch dimension, and its target."""
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} of {len(self)} examples")
        inputs, target = self._batch(np.array([position % len(self)]), None, None)
        first = {k: v[0] for k, v in inputs.items()} if isinstance(inputs, dict) else inputs[0]
        return first, target[0]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the targets; empty where there are none."""
        return self.pool.class_names

    @property
    def targets(self) -> npt.NDArray[Any]:
        """Class index (int64) of every example; -1 where unlabeled; or one array each."""
        return self.pool.examples.targets[list(self.indices)]

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """Class of every example as a whole: its target, or that of its largest defect."""
        marked = getattr(self.pool.examples, "labels", None)
        if marked is not None:
            return np.asarray(marked, dtype=np.int64)[list(self.indices)]
        return self.targets if self.targets.ndim == 1 else None

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of examples of every class; empty where they have none."""
        labels = self.labels
        if labels is None:
            return {}
        counts = np.bincount(labels[labels >= 0], minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=False))

    @property
    def ids(self) -> tuple[str, ...]:
        """Content hash of every example: the first 128 bits of the SHA-256 of its bytes."""
        ids = self.pool.ids()
        return tuple(ids[index] for index in self.indices)

    @property
    def documents(self) -> npt.NDArray[Any] | None:
        """Number of the document of every example; None where each stands for itself."""
        found = getattr(self.pool.examples, "documents", None)
        return None if found is None else found[list(self.indices)]

    @property
    def names(self) -> tuple[str, ...]:
        """Path or row of every example, for people."""
        names = self.pool.examples.names
        return tuple(names[index] for index in self.indices)

    @property
    def data_hash(self) -> str:
        """One hash over the content and the labels, whatever the order."""
        lines = sorted(f"{i} {t}" for i, t in zip(self.ids, _texts(self.targets), strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def subset(self, positions: Sequence[int]) -> DataSet:
        """Return the examples at the given positions, in that order."""
        return DataSet(self.pool, tuple(self.indices[position] for position in positions))

    def by_content(self, count: int | None = None) -> DataSet:
        """Return the first examples in the order of their hashes: a sample that nobody chose."""
        ids = self.ids  # once: it is made anew at every look
        return self.subset(sorted(range(len(ids)), key=ids.__getitem__)[:count])

    def image(self, position: int) -> Image.Image:
        """Return one example in its own size and colors, 8 bits a sample, for people to look at.

        Raises:
            DataError: The examples are no images, or this one cannot be read.
        """
        examples, index = self.pool.examples, self.indices[position]
        if not isinstance(examples, ImageExamples):
            raise DataError(f"{self.pool.source} holds no images.")
        try:
            return examples.image(index, self.pool.preprocess.bits)
        except ValueError as error:
            raise DataError(f"{self.pool.source}: {examples.names[index]}: {error}") from None

    def thumbnail(self, position: int, size: int = 96) -> Image.Image:
        """Return one example as a small RGB image, at most `size` pixels wide and high."""
        image = to_channels(self.image(position), 3)
        image.thumbnail((size, size))
        return image

    def check_readable(self) -> None:
        """Decode every image once, and keep the pixels where there is room.

        Raises:
            DataError: Some cannot be read; all of them are named.
        """
        self.pool.check_readable(self.indices)

    def batches(
        self,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
        augment: Augment | None = None,
        augment_seed: int | None = None,
        start: int = 0,
        share: tuple[int, int] = (0, 1),
        every: int = 1,
    ) -> Batches:
        """Return the batches `(inputs, targets)`; they can be read again.

        Images become floats (B, C, H, W), targets int64 (B,).

        Args:
            batch_size: Examples a batch; the last may be smaller.
            shuffle_seed: Shuffles, the same way for the same seed.
            augment: Random changes of images, drawn for every example of the data set.
            augment_seed: Seed of them, `shuffle_seed` by default: the same seed changes an example
                in the same way, whatever the order.
            start: First batch to serve, for resuming.
            share: (k, n) serves every n-th example of each batch, from the k-th on, so that n
                processes share a batch without duplicates.
            every: Serves every n-th batch, so that n processes share the batches.
        """
        return Batches(self, batch_size, shuffle_seed, augment, start, share, every, augment_seed)

    def _batch(
        self,
        positions: npt.NDArray[np.int64],
        augment: Augment | None,
        drawn: Drawn | None,
    ) -> tuple[Any, Tensor]:
        indices = [self.indices[position] for position in positions]
        target = torch.from_numpy(self.pool.examples.targets[indices])
        if not self.pool.holds_images:
            return self.pool.inputs(indices), target
        pixels = self.pool.pixels(indices)
        if augment is not None and drawn is not None:
            pixels, target = augment.both(pixels, target, drawn.of(positions))
        return self.pool.preprocess.normalized(pixels), target


@dataclass(frozen=True)
class Batches:
    """The batches of a data set; see `DataSet.batches`."""

    dataset: DataSet
    batch_size: int
    shuffle_seed: int | None = None
    augment: Augment | None = None
    start: int = 0
    share: tuple[int, int] = (0, 1)
    every: int = 1
    augment_seed: int | None = None

    def __len__(self) -> int:
        return len(self._numbers())

    def _numbers(self) -> range:
        return range(self.start, -(-len(self.dataset) // self.batch_size), self.every)

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """Positions in the data set, in the order in which they are served."""
        order = np.arange(len(self.dataset))
        if self.shuffle_seed is not None:
            np.random.default_rng(self.shuffle_seed).shuffle(order)
        return order

    @cached_property
    def _drawn(self) -> Drawn | None:
        if self.augment is None or not self.dataset.pool.holds_images:
            return None
        seed = self.shuffle_seed if self.augment_seed is None else self.augment_seed
        return self.augment.draw(len(self.dataset), generator("augment", seed or 0))

    def positions(self, number: int) -> npt.NDArray[np.int64]:
        """Return which examples of the data set a batch holds: this process's share of them."""
        first, step = self.share
        return self.order[number * self.batch_size : (number + 1) * self.batch_size][first::step]

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        numbers = self._numbers()
        if self.dataset.pool.is_cached(self.dataset.indices):
            for number in numbers:
                yield self._make(number)
            return
        with ThreadPoolExecutor(max_workers=1) as ahead:  # decodes while the model computes
            pending = [ahead.submit(self._make, number) for number in numbers[:1]]
            for number in numbers:
                made = pending.pop().result()
                if number + self.every in numbers:
                    pending.append(ahead.submit(self._make, number + self.every))
                yield made

    def _make(self, number: int) -> tuple[Any, Tensor]:
        return self.dataset._batch(self.positions(number), self.augment, self._drawn)


def _texts(targets: npt.NDArray[Any]) -> list[str]:
    if targets.ndim == 1:
        return [str(value) for value in targets.tolist()]
    return [hashlib.sha256(row.tobytes()).hexdigest() for row in targets]
