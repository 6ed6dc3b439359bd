"""All examples of one source: hashes and decoded pixels are computed once and shared."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srinit.errors import DataError
from srinit.sources.depths import Depths
from srinit.sources.examples import UNLABELED, Examples, ImageExamples, TensorExamples
from srinit.sources.preprocess import Preprocess

CACHE_BYTES = 2 << 30  # decoded images kept in memory, per source
SHOWN = 20  # problems listed in one message
CHUNK = 512  # images decoded between two looks at the cache

Pixels = npt.NDArray[np.uint8]  # C H W


class Pool:
    """All examples of one source, with how they become inputs.

    Args:
        source: As the user wrote it, for messages.
        examples: The raw examples.
        class_names: In the order of the targets; empty where targets are no classes.
        preprocess: How images become inputs.
        notes: What the user should know about how the source was read.
        cache_bytes: Room for decoded images; what does not fit is decoded every time.
    """

    def __init__(
        self,
        source: str,
        examples: Examples,
        class_names: Sequence[str],
        preprocess: Preprocess,
        *,
        notes: Sequence[str] = (),
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.source = source
        self.examples = examples
        self.class_names = tuple(class_names)
        self.preprocess = preprocess
        self._notes = tuple(notes)
        self._cache_bytes = cache_bytes
        self._ids: list[str] = []
        self._slots = np.full(len(examples.names), -1, dtype=np.int64)  # place in the store
        self._store: Pixels = np.empty((0, 0, 0, 0), dtype=np.uint8)
        self._used = 0
        self._lock = threading.Lock()  # two readers may decode at once
        self._depths = Depths(len(self))

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: of how the source was read, and of the images decoded."""
        names = self.examples.names
        return (*self._notes, *self._depths.notes(self.source, names, self.preprocess.bits))

    def relabel(self, indices: Sequence[int], targets: npt.NDArray[Any]) -> None:
        """Put `targets` in the place of those of some examples; the others become unlabeled."""
        fresh = np.full((len(self), *targets.shape[1:]), UNLABELED, dtype=np.int64)
        fresh[list(indices)] = targets
        self.examples = dataclasses.replace(self.examples, targets=fresh)  # type: ignore[type-var]

    @property
    def holds_images(self) -> bool:
        """Whether the examples are images."""
        return isinstance(self.examples, ImageExamples)

    def ids(self) -> list[str]:
        """Return the content hash of every example, in order.

        Raises:
            DataError: Files that cannot be read; all of them are named.
        """
        if not self._ids:
            results = list(_threaded(self._id, range(len(self))))
            self._raise_unreadable([text for text, failed in results if failed])
            self._ids = [text for text, _ in results]
        return self._ids

    def _id(self, index: int) -> tuple[str, bool]:
        try:
            return hashlib.sha256(self.examples.content(index)).hexdigest()[:32], False
        except ValueError as error:
            return f"{self.examples.names[index]}: {error}", True

    def is_cached(self, indices: Sequence[int]) -> bool:
        """Return whether no work is left to serve these examples."""
        return not self.holds_images or bool((self._slots[list(indices)] >= 0).all())

    def check_readable(self, indices: Sequence[int]) -> None:
        """Decode images once, and keep what there is room for.

        Raises:
            DataError: Unreadable images, all of them named, or images of different size.
        """
        if self.holds_images:
            bad: list[str] = []
            missing = [index for index in indices if self._slots[index] < 0]
            for begin in range(0, len(missing), CHUNK):
                bad += self._decoded(missing[begin : begin + CHUNK])[1]
            self._raise_unreadable(bad)

    def pixels(self, indices: Sequence[int]) -> Tensor:
        """Return the preprocessed bytes of examples, shape (B, C, H, W).

        Raises:
            DataError: Unreadable images, all of them named, or images of different size.
        """
        missing = [index for index in indices if self._slots[index] < 0]
        if not missing:
            return torch.from_numpy(self._store[self._slots[list(indices)]])
        fresh, bad = self._decoded(missing)
        self._raise_unreadable(bad)
        arrays = [fresh[i] if i in fresh else self._store[self._slots[i]] for i in indices]
        return torch.from_numpy(np.stack(arrays))

    def inputs(self, indices: Sequence[int]) -> Any:
        """Return examples that are no images as the model takes them."""
        assert isinstance(self.examples, TensorExamples)
        return self.examples.tensors(indices)

    def _decoded(self, indices: Sequence[int]) -> tuple[dict[int, Pixels], list[str]]:
        """Return the pixels of some images, and a line for every one that cannot be read."""
        found: dict[int, Pixels] = {}
        bad: list[str] = []
        for index, outcome in zip(indices, _threaded(self._decode, indices), strict=True):
            if isinstance(outcome, str):
                bad.append(f"{self.examples.names[index]}: {outcome}")
            else:
                found[index] = outcome
        with self._lock:
            self._check_shapes(found)
            self._keep(found)
        return found, bad

    def _decode(self, index: int) -> Pixels | str:
        assert isinstance(self.examples, ImageExamples)
        try:
            image = self.examples.image(index, self.preprocess.bits)
            self._depths.see(index, image)
            return self.preprocess.pixels(image)
        except (ValueError, OSError, MemoryError) as error:
            return str(error) or type(error).__name__

    def _check_shapes(self, found: dict[int, Pixels]) -> None:
        shapes = {array.shape: index for index, array in found.items()}
        if self._used:
            shapes.setdefault(self._store.shape[1:], int(np.argmax(self._slots >= 0)))
        if len(shapes) > 1:
            (one, first), (other, second), *_ = sorted(shapes.items())
            raise DataError(
                f"{self.source}: images differ in size: {self.examples.names[first]} is "
                f"{one[1]}x{one[2]}, {self.examples.names[second]} is {other[1]}x{other[2]} "
                "(height x width). Write data.preprocess.size: [height, width], or size and crop."
            )

    def _keep(self, found: dict[int, Pixels]) -> None:
        """Copy pixels into the store while there is room."""
        if not found:
            return
        if not self._used:
            first = next(iter(found.values()))
            room = min(len(self), self._cache_bytes // max(1, first.nbytes))
            self._store = np.empty((room, *first.shape), dtype=np.uint8)
        for index, array in found.items():
            if self._slots[index] >= 0:
                continue
            if self._used >= len(self._store):
                return
            self._store[self._used] = array
            self._slots[index] = self._used
            self._used += 1

    def _raise_unreadable(self, bad: Sequence[str]) -> None:
        if bad:
            noun = "image" if len(bad) == 1 else "images"
            lines = "\n".join(f"  {line}" for line in bad[:SHOWN])
            more = f"\n  and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
            raise DataError(
                f"{self.source}: {len(bad)} unreadable {noun}; repair or remove:\n{lines}{more}"
            )


def _threaded(function: Any, items: Sequence[int]) -> Iterator[Any]:
    """Yield `function` of every item in order; decoding and hashing release the GIL."""
    if len(items) < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        yield from threads.map(function, items)
