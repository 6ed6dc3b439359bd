"""A set of examples with content hashes, decoded once and served in batches."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from srinit.errors import DataError
from srinit.rng import generator
from srinit.sources.preprocess import Augment, Preprocess

MAX_PIXELS = 100_000_000  # larger images are refused as decompression bombs
CACHE_BYTES = 2 << 30  # decoded images kept in memory
SHOWN = 20


class Examples(Protocol):
    """Raw examples behind a data set."""

    @property
    def names(self) -> Sequence[str]:
        """A path or a row for every example, for messages."""
        ...

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """Class index of every example."""
        ...

    def content(self, index: int) -> bytes:
        """Return the stored bytes of an example: what its hash is of."""
        ...

    def image(self, index: int) -> Image.Image:
        """Return an example as an image."""
        ...


def open_image(content: bytes) -> Image.Image:
    """Return a decoded image.

    Raises:
        ValueError: Not an image, truncated, or larger than `MAX_PIXELS`.
    """
    try:
        image = Image.open(io.BytesIO(content))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width}x{image.height} pixels are too many")
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    return image


@dataclass(frozen=True)
class Pool:
    """All examples of one source: hashes and decoded pixels are computed once and shared."""

    source: str
    examples: Examples
    class_names: tuple[str, ...]
    preprocess: Preprocess
    _ids: list[str] = field(default_factory=list)
    _pixels: dict[int, npt.NDArray[np.uint8]] = field(default_factory=dict)

    def ids(self) -> list[str]:
        """Return the content hash of every example, in order."""
        if not self._ids:
            self._ids.extend(
                hashlib.sha256(self.examples.content(index)).hexdigest()[:32]
                for index in range(len(self.examples.names))
            )
        return self._ids

    def pixels(self, indices: Sequence[int]) -> Tensor:
        """Return the preprocessed bytes of examples, shape (B, C, H, W).

        Raises:
            DataError: Unreadable images, all of them named, or images of different size.
        """
        wanted = [index for index in indices if index not in self._pixels]
        found, bad = self._decoded(wanted)
        if bad:
            shown = "\n".join(f"  {line}" for line in bad[:SHOWN])
            more = f"\n  and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
            raise DataError(f"{self.source}: {len(bad)} unreadable images:\n{shown}{more}")
        size = next(iter(found.values())).nbytes if found else 0
        if (len(self._pixels) + len(found)) * size <= CACHE_BYTES:
            self._pixels.update(found)
        arrays = [self._pixels[i] if i in self._pixels else found[i] for i in indices]
        shapes = {array.shape for array in arrays}
        if len(shapes) > 1:
            raise DataError(
                f"{self.source}: images differ in size ({sorted(shapes)[:3]}); "
                "write data.preprocess.size: [height, width]."
            )
        return torch.from_numpy(np.stack(arrays))

    def _decoded(
        self, indices: Sequence[int]
    ) -> tuple[dict[int, npt.NDArray[np.uint8]], list[str]]:
        def decode(index: int) -> tuple[int, npt.NDArray[np.uint8] | None, str]:
            try:
                return index, self.preprocess.pixels(self.examples.image(index)), ""
            except (ValueError, OSError) as error:
                return index, None, f"{self.examples.names[index]}: {error}"

        with ThreadPoolExecutor(max_workers=4) as pool:
            results = list(pool.map(decode, indices))
        return (
            {index: array for index, array, _ in results if array is not None},
            [problem for _, array, problem in results if array is None],
        )


@dataclass(frozen=True)
class DataSet:
    """Some examples of a pool, in a fixed order."""

    pool: Pool
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the targets."""
        return self.pool.class_names

    @property
    def targets(self) -> npt.NDArray[np.int64]:
        """Class index of every example."""
        return self.pool.examples.targets[list(self.indices)]

    @property
    def ids(self) -> tuple[str, ...]:
        """Content hash of every example."""
        ids = self.pool.ids()
        return tuple(ids[index] for index in self.indices)

    @property
    def names(self) -> tuple[str, ...]:
        """Path or row of every example, for people."""
        return tuple(self.pool.examples.names[index] for index in self.indices)

    @property
    def data_hash(self) -> str:
        """One hash over the content and the labels, whatever the order."""
        lines = sorted(f"{i} {t}" for i, t in zip(self.ids, self.targets.tolist(), strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def subset(self, positions: Sequence[int]) -> DataSet:
        """Return the examples at the given positions."""
        return DataSet(self.pool, tuple(self.indices[position] for position in positions))

    def image(self, position: int) -> Image.Image:
        """Return one example as it is stored, for people to look at."""
        return self.pool.examples.image(self.indices[position])

    def check_readable(self) -> None:
        """Decode every image once.

        Raises:
            DataError: Some cannot be read; all of them are named.
        """
        if self.indices:
            self.pool.pixels(self.indices)

    def batches(
        self,
        batch_size: int,
        *,
        shuffle_seed: int | None = None,
        augment: Augment | None = None,
        start: int = 0,
    ) -> Batches:
        """Return the batches `(inputs (B, C, H, W), targets (B,))`; they can be read again.

        Args:
            batch_size: Examples a batch; the last may be smaller.
            shuffle_seed: Shuffles, the same way for the same seed.
            augment: Random changes, drawn from `shuffle_seed` and the batch's number.
            start: First batch to serve, for resuming.
        """
        return Batches(self, batch_size, shuffle_seed, augment, start)


@dataclass(frozen=True)
class Batches:
    """The batches of a data set; see `DataSet.batches`."""

    dataset: DataSet
    batch_size: int
    shuffle_seed: int | None = None
    augment: Augment | None = None
    start: int = 0

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size) - self.start

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        data = self.dataset
        order = np.arange(len(data))
        if self.shuffle_seed is not None:
            np.random.default_rng(self.shuffle_seed).shuffle(order)
        targets = torch.from_numpy(data.targets)
        for number in range(self.start, self.start + len(self)):
            chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
            pixels = data.pool.pixels([data.indices[position] for position in chosen])
            if self.augment is not None:
                pixels = self.augment(pixels, generator("augment", self.shuffle_seed or 0, number))
            yield data.pool.preprocess.normalized(pixels), targets[torch.from_numpy(chosen)]


def natural_key(path: Path | str) -> list[tuple[int, int | str]]:
    """Return a sort key under which img2 comes before img10."""
    parts = re.split(r"(\d+)", str(path))
    return [(1, int(part)) if part.isdigit() else (0, part.lower()) for part in parts]
