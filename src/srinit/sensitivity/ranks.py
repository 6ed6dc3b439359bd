"""Several processes, one scan: every rank measures its share, all ranks know all observations.

The processes are those of `torch.distributed`, as `torchrun` and `accelerate launch` start them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed as dist

PATIENCE = timedelta(days=1)  # others wait while rank 0 does what only one can do


class Ranks:
    """What this process knows of the others; alone, it is rank 0 of 1."""

    def __init__(self) -> None:
        self._many = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if self._many else 0
        self.count = dist.get_world_size() if self._many else 1
        on_gpu = self._many and dist.get_backend() == "nccl"
        self._device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else "cpu"

    def gather(self, value: Any) -> list[Any]:
        """Return the JSON values of all ranks, by rank; every rank must call it."""
        if not self._many:
            return [value]
        mine = self._bytes(value)
        size = torch.tensor([mine.numel()], device=self._device)
        sizes = [torch.zeros_like(size) for _ in range(self.count)]
        dist.all_gather(sizes, size)
        longest = max(int(each) for each in sizes)
        padded = torch.zeros(longest, dtype=torch.uint8, device=self._device)
        padded[: mine.numel()] = mine
        parts = [torch.zeros_like(padded) for _ in range(self.count)]
        dist.all_gather(parts, padded)
        return [
            json.loads(bytes(part[: int(each)].cpu().tolist()))
            for part, each in zip(parts, sizes, strict=True)
        ]

    def from_first(self, value: Any) -> Any:
        """Return what rank 0 passed, a JSON value, on every rank."""
        if not self._many:
            return value
        return self.gather(value if self.rank == 0 else None)[0]

    def _bytes(self, value: Any) -> torch.Tensor:
        content = json.dumps(value).encode()
        return torch.frombuffer(bytearray(content), dtype=torch.uint8).to(self._device)


@contextmanager
def process_group() -> Iterator[Ranks]:
    """Join the processes that `torchrun` or `accelerate launch` started, for a while.

    Where a group exists already it is used and left alone; where nothing was launched, this
    process is alone. Tensors on a GPU go through NCCL, those on the CPU through Gloo.
    """
    launched = dist.is_available() and dist.is_torchelastic_launched()
    if not launched or dist.is_initialized():
        yield Ranks()
        return
    local = torch.cuda.is_available() and torch.cuda.device_count() > 0
    backend = "cpu:gloo,cuda:nccl" if local else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)  # a rank that dies ends the others sooner
    try:
        if local:
            torch.cuda.set_device(dist.get_node_local_rank() % torch.cuda.device_count())
        yield Ranks()
    finally:
        dist.destroy_process_group()
