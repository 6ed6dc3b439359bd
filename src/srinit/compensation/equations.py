"""Normal equations of one linear map, accumulated batch by batch, and their solution.

`D = argmin sum |r - D u|^2 + strength mean(diag G) |D|^2`, `G = sum u u^T`, for what is added to
a weight: `u` are the map's inputs (patches for a convolution, a 1 appended where there is a
bias), `r` what its outputs lack. Memory is that of G, whatever the number of examples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS_PER_FEATURE = 48  # positions that are read per unknown of an output
LEAST_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a convolution reads its input; a linear map is one of a single position."""

    groups: int = 1
    kernel: tuple[int, int] | None = None  # None: a linear map
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    is_1d: bool = False
    has_bias: bool = True

    def columns(self, u: Tensor) -> Tensor:
        """Return inputs as (groups, features, rows): rows are positions of all examples."""
        if self.kernel is None:
            return u.reshape(-1, u.shape[-1]).T[None]
        if self.is_1d:
            u = u.unsqueeze(2)
        if self.kernel == (1, 1) and self.padding == (0, 0):
            patches = u[:, :, :: self.stride[0], :: self.stride[1]].flatten(2)
        else:
            patches = F.unfold(u, self.kernel, self.dilation, self.padding, self.stride)
        batch, _, positions = patches.shape
        grouped = patches.reshape(batch, self.groups, -1, positions)
        return grouped.permute(1, 2, 0, 3).reshape(self.groups, -1, batch * positions)

    def rows(self, r: Tensor) -> Tensor:
        """Return outputs as (groups, outputs of a group, rows), in the order of `columns`."""
        if self.kernel is None:
            return r.reshape(-1, r.shape[-1]).T[None]
        flat = r.flatten(2)
        batch, channels, positions = flat.shape
        grouped = flat.reshape(batch, self.groups, channels // self.groups, positions)
        return grouped.permute(1, 2, 0, 3).reshape(self.groups, -1, batch * positions)


@dataclass(slots=True)
class Equations:
    """The sums that a map's solution needs."""

    geometry: Geometry
    share: float = 1.0  # of the positions that are read
    gram: Tensor | None = None  # (groups, features, features), float64
    right: Tensor | None = None  # (groups, features, outputs of a group), float64
    rows: int = 0
    _noise: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def add(self, u: Tensor, lacking: Tensor, keep: Tensor | None = None) -> None:
        """Add one batch.

        Args:
            u: The map's inputs.
            lacking: What its outputs lack, in their shape.
            keep: Which rows count; all by default (padded places do not).
        """
        columns, rows = self.geometry.columns(u.float()), self.geometry.rows(lacking.float())
        if keep is not None:
            columns, rows = columns[..., keep], rows[..., keep]
        if self.share < 1.0:
            count = max(1, round(self.share * columns.shape[-1]))
            chosen = torch.randperm(columns.shape[-1], generator=self._noise)[:count]
            columns, rows = columns[..., chosen.to(u.device)], rows[..., chosen.to(u.device)]
        if self.geometry.has_bias:
            one = columns.new_ones(columns.shape[0], 1, columns.shape[-1])
            columns = torch.cat([columns, one], 1)
        gram = (columns @ columns.mT).double()
        right = (columns @ rows.mT).double()
        self.gram = gram if self.gram is None else self.gram + gram
        self.right = right if self.right is None else self.right + right
        self.rows += columns.shape[-1]

    def solve(self, strength: float, *, shrink_bias: bool = False) -> Tensor | None:
        """Return what is to be added to the weight, (groups, outputs, features), float64.

        Args:
            strength: Of the penalty on the change of the weight, relative to the mean of G's
                diagonal; infinite: only the bias changes.
            shrink_bias: The bias is penalized as well.

        Returns:
            None where the equations have no finite solution.
        """
        if self.gram is None or self.right is None or not self.rows:
            return None
        if math.isinf(strength):  # the bias alone
            only = torch.zeros_like(self.right.mT)
            if self.geometry.has_bias:
                only[..., -1] = self.right[..., -1, :] / self.rows
            return only
        gram, features = self.gram.clone(), self.gram.shape[-1]
        own = features - int(self.geometry.has_bias)
        diagonal = torch.diagonal(gram, dim1=-2, dim2=-1)
        penalty = strength * diagonal[..., :own].mean(-1, keepdim=True).expand(-1, own)
        diagonal[..., :own] += penalty + 1e-12
        if self.geometry.has_bias:
            extra = strength * self.rows if shrink_bias else 1e-9 * self.rows
            diagonal[..., own] += extra
        factor, info = torch.linalg.cholesky_ex(gram)
        if bool((info != 0).any()):
            return None
        found = torch.cholesky_solve(self.right, factor).mT
        return found if bool(torch.isfinite(found).all()) else None


def explained(equations: Equations, change: Tensor, scale: Tensor) -> float:
    """Return by how much a change lowers the squared distance, channels weighted by `scale`."""
    assert equations.gram is not None
    assert equations.right is not None
    gained = 2 * change * equations.right.mT - (change @ equations.gram) * change
    return float((gained.sum(-1) * scale.reshape(change.shape[:2])).sum())


def share_of(rows: int, features: int) -> float:
    """Return which share of the positions is read: enough for the unknowns, and no more."""
    wanted = max(LEAST_ROWS, ROWS_PER_FEATURE * features)
    return min(1.0, wanted / max(rows, 1))


def geometry_of(func: Any, args: tuple[Any, ...], *, has_bias: bool) -> Geometry | None:
    """Return how a recorded operation reads its input; None where it is not solved here."""
    if "convolution" not in str(func):
        return Geometry(has_bias=has_bias)
    weight, stride, padding, dilation, is_transposed, groups = (*args[1:2], *args[3:7], args[8])
    if is_transposed or weight.ndim not in (3, 4):
        return None
    if weight.ndim == 3:
        return Geometry(
            groups, (1, weight.shape[2]), (1, stride[0]), (0, padding[0]), (1, dilation[0]),
            is_1d=True, has_bias=has_bias,
        )  # fmt: skip
    return Geometry(
        groups, tuple(weight.shape[2:]), tuple(stride), tuple(padding), tuple(dilation),
        has_bias=has_bias,
    )  # fmt: skip
