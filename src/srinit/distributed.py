"""Several processes, one job: every rank measures its share, all ranks know what all found.

The processes are those of `torch.distributed`, as `torchrun` and `accelerate launch` start them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from srinit import errors
from srinit.errors import PruneError

T = TypeVar("T")
PATIENCE = timedelta(days=1)  # others wait while rank 0 does what only one can do
_by_itself = ContextVar("by_itself", default=False)


class ProcessGroup:
    """What this process knows of the others; alone, it is rank 0 of 1.

    Every rank must call the methods that exchange something, in the same order.

    Args:
        alone: Whatever was launched, this process works by itself.
    """

    def __init__(self, *, alone: bool = False) -> None:
        launched = dist.is_available() and dist.is_initialized()
        self._many = launched and not alone and not _by_itself.get()
        self.rank = dist.get_rank() if self._many else 0
        self.count = dist.get_world_size() if self._many else 1
        self._kinds = dist.get_backend_config() if self._many else "cpu"  # such as "cpu:gloo,..."
        on_gpu = "cpu" not in self._kinds
        self._device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else "cpu"

    def mine(self, items: Sequence[T]) -> list[tuple[int, T]]:
        """Return this rank's share of a list that all ranks have, with the numbers in it."""
        return [(i, items[i]) for i in range(self.rank, len(items), self.count)]

    def gather(self, value: object) -> list[Any]:
        """Return the JSON values of all ranks, by rank."""
        if not self._many:
            return [value]
        return [json.loads(part) for part in self.gather_bytes(json.dumps(value).encode())]

    def gather_bytes(self, content: bytes) -> list[bytes]:
        """Return what all ranks passed, by rank."""
        if not self._many:
            return [content]
        mine = self._tensor(content)
        size = torch.tensor([mine.numel()], device=self._device)
        sizes = [torch.zeros_like(size) for _ in range(self.count)]
        dist.all_gather(sizes, size)
        longest = max(int(each) for each in sizes)
        padded = torch.zeros(longest, dtype=torch.uint8, device=self._device)
        padded[: mine.numel()] = mine
        parts = [torch.zeros_like(padded) for _ in range(self.count)]
        dist.all_gather(parts, padded)
        return [
            part[: int(each)].cpu().numpy().tobytes()
            for part, each in zip(parts, sizes, strict=True)
        ]

    def broadcast(self, value: object) -> Any:
        """Return what rank 0 passed, a JSON value, on every rank."""
        if not self._many:
            return value
        content = self._tensor(json.dumps(value if self.rank == 0 else None).encode())
        size = torch.tensor([content.numel()], device=self._device)
        dist.broadcast(size, 0)
        if self.rank:
            content = torch.zeros(int(size), dtype=torch.uint8, device=self._device)
        dist.broadcast(content, 0)
        return json.loads(content.cpu().numpy().tobytes())

    def together(self, work: Callable[[], T]) -> T:
        """Return what `work` returns here; a `PruneError` in one rank is raised in all.

        So no rank waits for another that gave up.
        """
        if not self._many:
            return work()
        found: list[T] = []
        mine: PruneError | None = None
        try:
            found.append(work())
        except PruneError as error:
            mine = error
        failed = torch.tensor([mine is not None], dtype=torch.int32, device=self._device)
        dist.all_reduce(failed, dist.ReduceOp.MAX)
        if int(failed):
            said = self.gather(None if mine is None else told(mine))
            if mine is not None:
                raise mine
            raise error_of(next(each for each in said if each is not None))
        return found[0]

    def sum_(self, values: Tensor) -> None:
        """Add the tensors of all ranks, in place."""
        if self._many:
            self._moved(values, dist.all_reduce)

    def broadcast_(self, values: Tensor) -> None:
        """Make a tensor that of rank 0, in place."""
        if self._many:
            self._moved(values, lambda carried: dist.broadcast(carried, 0))

    def in_order(self, vectors: Mapping[int, Tensor], size: int, total: int) -> list[Tensor]:
        """Return the vectors of all ranks by number, on the CPU: added there, sums are the same.

        Args:
            vectors: This rank's, by number as `mine` counts; (size,) each.
            size: Entries of a vector.
            total: How many there are in all ranks.
        """
        if not self._many:
            return [vectors[number].cpu() for number in range(total)]
        rounds = -(-total // self.count)
        own = torch.zeros(rounds, size, dtype=torch.float64, device=self._device)
        for number, vector in vectors.items():
            own[number // self.count] = vector
        parts = [torch.zeros_like(own) for _ in range(self.count)]
        dist.all_gather(parts, own)
        parts = [part.cpu() for part in parts]
        return [parts[number % self.count][number // self.count] for number in range(total)]

    def _moved(self, values: Tensor, exchange: Callable[[Tensor], object]) -> None:
        """Exchange a tensor where the backend can."""
        is_carried = values.device.type in self._kinds
        carried = values.contiguous() if is_carried else values.to(self._device)
        exchange(carried)
        if carried is not values:
            values.copy_(carried)

    def _tensor(self, content: bytes) -> Tensor:
        return torch.frombuffer(bytearray(content), dtype=torch.uint8).to(self._device)


@contextmanager
def by_itself() -> Iterator[None]:
    """Let this process do for a while what needs no other: here `ProcessGroup` is rank 0 of 1."""
    token = _by_itself.set(True)
    try:
        yield
    finally:
        _by_itself.reset(token)


def told(error: PruneError) -> dict[str, str]:
    """Return an error as JSON, for the other ranks."""
    return {"error": type(error).__name__, "message": str(error)}


def error_of(said: Mapping[str, str]) -> PruneError:
    """Return an error that another rank told of."""
    kind: type[PruneError] = getattr(errors, said["error"], PruneError)
    return kind(said["message"])


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """Join the processes that `torchrun` or `accelerate launch` started, for a while.

    Where a group exists already it is used and left alone; where nothing was launched, this
    process is alone. Tensors on a GPU go through NCCL, those on the CPU through Gloo.
    """
    launched = dist.is_available() and dist.is_torchelastic_launched()
    if not launched or dist.is_initialized() or _by_itself.get():
        yield ProcessGroup()
        return
    local = torch.cuda.is_available() and torch.cuda.device_count() > 0
    backend = "cpu:gloo,cuda:nccl" if local else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)  # a rank that dies ends the others sooner
    try:
        if local:
            torch.cuda.set_device(dist.get_node_local_rank() % torch.cuda.device_count())
        yield ProcessGroup()
    finally:
        dist.destroy_process_group()
