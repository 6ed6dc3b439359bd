"""Whether what a unit puts out is finite: what follows may hide that it is not.

A convolution that clamps turns NaN into 0, and the network's answer is a number again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

# B examples


class FiniteCheck:
    """Stands in for a unit and notes whose first output is finite, of all its calls.

    Args:
        size: Examples in the batch.
        replacement: The forward that does the work.
        dims: In which dimension of each output the batch lies, None where nowhere; None: unknown.
    """

    def __init__(
        self, size: int, replacement: Callable[..., Any], dims: Sequence[int | None] | None = None
    ) -> None:
        self._size, self._replacement, self._dims = size, replacement, dims
        self.finite_B: Tensor | None = None

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Return what the forward returns."""
        output = self._replacement(*args, **kwargs)
        leaves = pytree.tree_leaves(output)
        dims = self._dims if self._dims is not None else (None,) * len(leaves)
        for leaf, dim in zip(leaves, dims, strict=True):
            if isinstance(leaf, Tensor) and leaf.is_floating_point() and not leaf.is_nested:
                finite_B = self._finite(leaf, dim)
                self.finite_B = finite_B if self.finite_B is None else self.finite_B & finite_B
                break  # others may be masks, which hold infinity by right
        return output

    def _finite(self, leaf: Tensor, dim: int | None) -> Tensor:
        """Return of which examples all values are finite: their sum is, and is cheap."""
        dtype = torch.float64 if leaf.dtype is torch.float64 else torch.float32
        if dim is None:
            return leaf.sum(dtype=dtype).isfinite().expand(self._size)
        others = [each for each in range(leaf.ndim) if each != dim]
        sums = leaf.sum(others, dtype=dtype) if others else leaf
        return sums.reshape(self._size, -1).isfinite().all(1)
