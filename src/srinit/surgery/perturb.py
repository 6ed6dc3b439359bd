"""Noise on a copy's parameters for a while, so that no layer is without effect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from srinit.copying import Pairs
from srinit.rng import generator

SHAKE = 0.02  # spread of the noise that tells zero-initialized layers apart


@contextmanager
def perturbed(pairs: Pairs) -> Iterator[None]:
    """Add noise to a copy's parameters for a while, so that no layer is without effect.

    Layers that start at zero make wrong networks look right; with noise they differ.

    Args:
        pairs: (original, copied) parameters; the copies get the original's values back.
    """
    noise = generator("shaken")
    with torch.no_grad():
        for _, ours in pairs:
            if ours.dtype.is_floating_point and not ours.is_meta:
                draw = torch.randn(ours.shape, generator=noise) * SHAKE
                ours.add_(draw.to(ours.device, ours.dtype))
    try:
        yield
    finally:
        with torch.no_grad():
            for theirs, ours in pairs:
                ours.copy_(theirs)
