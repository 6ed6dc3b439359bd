"""Seeds that derive from names, and a global random state that is handed back untouched."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch


def seed_for(*parts: str | int) -> int:
    """Return a seed in [0, 2**63) that depends on `parts` alone, not on the order of calls.

    Example:
        >>> seed_for(0, "layer1.0", 3) == seed_for(0, "layer1.0", 3)
        True
        >>> seed_for(0, "layer1.0", 3) == seed_for(0, "layer1.0", 4)
        False
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: str | int) -> torch.Generator:
    """Return a CPU generator seeded by `seed_for(*parts)`."""
    return torch.Generator().manual_seed(seed_for(*parts))


@contextmanager
def isolated_rng(seed: int | None = None) -> Iterator[None]:
    """Give the block its own global random state and restore the caller's afterwards.

    Python's, numpy's and torch's (CPU and every CUDA device in use) states are covered.

    Args:
        seed: Seeds all of them inside the block; None leaves the state as it is.

    Example:
        >>> before = torch.get_rng_state()
        >>> with isolated_rng(0):
        ...     first = torch.rand(1)
        >>> with isolated_rng(0):
        ...     torch.equal(first, torch.rand(1))
        True
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002 - the caller's state is what is saved
    with torch.random.fork_rng(devices=devices):
        if seed is not None:
            reseed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)  # noqa: NPY002


def reseed(seed: int) -> None:
    """Seed the global random states again; only for use inside `isolated_rng`.

    Where there is no accelerator torch's CPU generator alone is seeded: torch's own function also
    queues the seed, with a stack trace, for devices that may come.
    """
    if _has_accelerator():
        torch.random.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
    random.seed(seed)  # noqa: TID251 - restored by `isolated_rng`
    np.random.seed(seed % 2**32)  # noqa: NPY002, TID251


@cache
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()
