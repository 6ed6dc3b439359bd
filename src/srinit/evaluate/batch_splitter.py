"""Batches that do not fit into memory: worked through in parts, and the size remembered."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from srinit import modules
from srinit.errors import ResourceError, is_out_of_memory

T = TypeVar("T")


class BatchSplitter:
    """Cuts batches into as many parts of about equal size as memory needs.

    Args:
        place: The device, for the message; what it keeps for itself is freed after a failure.
        least: Examples of a part at least, where the batch holds so many: batch normalization in
            training needs two.
        limit: Examples that fit, where that is known from before.
    """

    def __init__(
        self, place: torch.device | str, *, least: int = 1, limit: int | None = None
    ) -> None:
        self.place, self.least, self.limit = torch.device(place), least, limit

    def count(self, size: int) -> int:
        """Return how many parts a batch of `size` examples is cut into."""
        wanted = 1 if self.limit is None else -(-size // self.limit)
        return min(wanted, max(1, size // self.least))

    def split(self, batch: Any) -> Iterator[Any]:
        """Yield the parts of a batch: tensors, in any nesting, cut along their first dimension."""
        size = modules.batch_size(batch)
        count = self.count(size)
        if count == 1:
            yield batch
            return
        edges = [size * number // count for number in range(count + 1)]
        for start, stop in itertools.pairwise(edges):
            yield modules.rows_between(batch, start, stop, size)

    def shrink(self, size: int, reason: str) -> None:
        """Halve the parts, after those of a batch of `size` examples did not fit.

        Raises:
            ResourceError: They cannot be smaller.
        """
        count = self.count(size)
        largest = -(-size // count)
        if count >= max(1, size // self.least):
            several = "one example does" if largest == 1 else f"{largest} examples do"
            raise ResourceError(
                f"{several} not fit into the memory of {self.place}: "
                f"{reason.splitlines()[0][:200] if reason else 'out of memory'}. Use smaller "
                "inputs or another device."
            )
        self.limit = max(self.least, largest // 2)
        if self.place.type == "cuda":
            torch.cuda.empty_cache()

    def run(
        self, work: Callable[[Any], T], batch: Any, *, again: Callable[[], None] | None = None
    ) -> list[T]:
        """Return what `work` makes of every part of a batch; begun again with smaller parts.

        Args:
            work: Called with every part.
            batch: Tensors in any nesting.
            again: Called before it begins again, to undo what `work` has changed.

        Raises:
            ResourceError: Not even the smallest part fits.
        """

        def attempt() -> list[T]:
            return [work(part) for part in self.split(batch)]

        return self.until_it_fits(attempt, modules.batch_size(batch), again=again)

    def until_it_fits(
        self, attempt: Callable[[], T], size: int, *, again: Callable[[], None] | None = None
    ) -> T:
        """Return what `attempt` makes of a batch of `size` examples, which it splits by this.

        Raises:
            ResourceError: Not even the smallest part fits.
        """
        while True:
            try:
                return attempt()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error)
            if again is not None:  # here the failed tensors are free
                again()
            self.shrink(size, reason)
