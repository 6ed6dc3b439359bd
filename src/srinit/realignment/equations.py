"""Normal equations of one linear map, accumulated batch by batch, and their solution.

`D = argmin sum |r - D u|^2 + strength mean(diag G) |D|^2`, `G = sum u u^T`, for what is added to
a weight: `u` are the map's inputs (patches for a convolution, a 1 appended where there is a
bias), `r` what its outputs lack. Memory is that of G, whatever the number of examples.

The sums do not depend on the order of the batches, nor on the processes that share them: what a
batch adds is rounded to a grid, finer than the products, on which float64 adds without error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from srinit.distributed import ProcessGroup
from srinit.realignment.products import sums_of

ROWS_PER_FEATURE = 48  # positions that are read per unknown of an output
LEAST_ROWS = 36_000
FEWEST = 16_000  # where fewer positions than that are enough, fewer per unknown are
FINE = 16  # bits of a feature's size in the first batch; its square has twice as many
WEAK = 8  # bits by which a feature may be below the largest of its group and keep its own grid


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

    def columns(self, u: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return inputs as (groups, rows, features): rows are positions of all examples.

        Args:
            u: Inputs of the map.
            chosen: Numbers of the rows that are read; all by default.
        """
        if self.kernel is None:
            flat = u.reshape(-1, u.shape[-1])
            return (flat if chosen is None else flat[chosen])[None]
        u = u.unsqueeze(2) if self.is_1d else u
        (down, across), (high, wide) = self.padding, self.kernel
        padded = F.pad(u, (across, across, down, down)).permute(0, 2, 3, 1).contiguous()
        batch, height, width, channels = padded.shape
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True)]
        tall = (height - reach[0] - 1) // self.stride[0] + 1
        broad = (width - reach[1] - 1) // self.stride[1] + 1
        count = batch * tall * broad
        row = torch.arange(count, device=u.device) if chosen is None else chosen
        example, place = row // (tall * broad), row % (tall * broad)
        top, left = place // broad * self.stride[0], place % broad * self.stride[1]
        start = (example * height + top) * width + left
        flat = padded.reshape(-1, channels)
        found = flat.new_empty(len(row), high * wide, channels)
        for y in range(high):
            for x in range(wide):
                step = y * self.dilation[0] * width + x * self.dilation[1]
                found[:, y * wide + x] = flat.index_select(0, start + step)
        if self.groups == 1:
            return found.reshape(1, len(row), -1)
        parts = found.reshape(len(row), high * wide, self.groups, -1).permute(2, 0, 1, 3)
        return parts.reshape(self.groups, len(row), -1)

    def features(self, u: Tensor) -> int:
        """Return how many inputs each output of a group is computed from."""
        if self.kernel is None:
            return u.shape[-1]
        return u.shape[1] // self.groups * math.prod(self.kernel)

    def order(self, features: int, device: torch.device) -> Tensor:
        """Return for each feature, in the weight's order, its place among those of `columns`."""
        places = 1 if self.kernel is None else math.prod(self.kernel)
        own = torch.arange(features, device=device)
        return own.reshape(places, -1).T.reshape(-1)

    def rows(self, r: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return outputs as (groups, rows, outputs of a group), in the order of `columns`."""
        flat = r if self.kernel is None else r.flatten(2).transpose(1, 2)
        flat = flat.reshape(-1, flat.shape[-1])
        flat = flat if chosen is None else flat[chosen]
        return flat.reshape(len(flat), self.groups, -1).transpose(0, 1)


@dataclass(frozen=True, slots=True)
class Grid:
    """The sizes of inputs and of what is lacking in the first batch, as powers of two, by channel.

    Args:
        inputs: Channels of the map's inputs.
        outputs: Channels of its outputs.
        one: Of the 1 that is appended.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    one: int

    @classmethod
    def of(
        cls,
        geometry: Geometry,
        u: Tensor,
        lacking: Tensor,
        share: float,
        keep: Tensor | None = None,
    ) -> Grid:
        """Return the grid that a first batch of a map asks for, of the rows that count."""
        if keep is not None:
            u, lacking = (x.reshape(-1, x.shape[-1])[keep] for x in (u, lacking))
        rows = share * lacking.numel() / len(_squares(geometry, lacking))
        return cls(
            _powers(share * _squares(geometry, u), geometry.groups),
            _powers(share * _squares(geometry, lacking), 1),
            math.frexp(math.sqrt(rows))[1],
        )

    def factors(self, geometry: Geometry, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return by what features are multiplied, (groups, features, 1) in float64, and outputs."""
        wide = torch.tensor([FINE - p for p in self.inputs], device=device)
        wide = wide.repeat_interleave(math.prod(geometry.kernel or (1,)))
        wide = wide.reshape(geometry.groups, -1)
        if geometry.has_bias:
            wide = torch.cat([wide, wide.new_full((len(wide), 1), FINE - self.one)], 1)
        high = torch.tensor([FINE - p for p in self.outputs], device=device)
        high = high.reshape(geometry.groups, -1)
        left, right = (
            torch.ldexp(torch.ones_like(p, dtype=torch.float64), p) for p in (wide, high)
        )
        return left[..., None], right[..., None]


def _squares(geometry: Geometry, x: Tensor) -> Tensor:
    """Return the sum of squares by channel."""
    axis = x.ndim - 1 if geometry.kernel is None else 1
    return x.float().pow(2).sum([d for d in range(x.ndim) if d != axis])


def _powers(squares: Tensor, groups: int) -> tuple[int, ...]:
    """Return the powers of two above the square roots, none far below the largest of its group."""
    found = torch.frexp(squares.double().sqrt())[1].clamp(-60, 60)
    is_seen = squares > 0
    largest = found[is_seen].max() if bool(is_seen.any()) else found.new_tensor(0)
    found = torch.where(is_seen, found, -99).reshape(groups, -1)
    top = found.amax(1, keepdim=True)
    top = torch.where(top == -99, largest, top)  # a group of which the first batch shows nothing
    return tuple(torch.maximum(found, top - WEAK).flatten().tolist())


@dataclass(slots=True)
class Equations:
    """The sums that a map's solution needs."""

    geometry: Geometry
    share: float = 1.0  # of the positions that are read
    bias_only: bool = False  # what a change of the bias needs, and no more
    grid: Grid | None = None  # the same in all processes; by default that of the first batch here
    gram: Tensor | None = None  # (groups, features, features), float64
    right: Tensor | None = None  # (groups, features, outputs of a group), float64
    rows: int = 0
    known: Tensor | None = None  # gram of an earlier reading of the same positions
    factors: tuple[Tensor, Tensor] | None = None
    is_settled: bool = False

    def add(
        self, u: Tensor, lacking: Tensor, keep: Tensor | None = None, *, number: int = 0
    ) -> int:
        """Add one batch; return how many positions of it were read.

        Args:
            u: The map's inputs.
            lacking: What its outputs lack, in their shape.
            keep: Which rows count; all by default (padded places do not).
            number: Of the batch among all; which positions are read depends on it.
        """
        assert not self.is_settled
        if self.grid is None:
            self.grid = Grid.of(self.geometry, u, lacking, self.share, keep)
        count = lacking.numel() // lacking.shape[-1 if self.geometry.kernel is None else 1]
        chosen = None if keep is None else keep.nonzero().flatten()
        if self.share < 1.0:
            count = count if chosen is None else len(chosen)
            noise = torch.Generator().manual_seed(number)
            some = torch.randperm(count, generator=noise)[: max(1, round(self.share * count))]
            some = some.sort().values.to(u.device)
            chosen = some if chosen is None else chosen[some]
        rows = self.geometry.rows(lacking.float(), chosen)
        if self.bias_only:
            gram, right = self._of_bias(rows, self.geometry.features(u))
        else:
            gram, right = self._of_all(self.geometry.columns(u.float(), chosen), rows)
        self._add_rounded(gram, right)
        self.rows += rows.shape[1]
        return rows.shape[1]

    def _of_all(self, columns: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        features, has_bias = columns.shape[-1], self.geometry.has_bias
        order = self.geometry.order(features, columns.device)
        if has_bias:
            order = torch.cat([order, order.new_full((1,), features)])
        gram, right = sums_of(columns, rows, has_bias=has_bias, gram=self.known is None)
        right = right[:, order].double()
        if self.known is not None:
            return torch.zeros_like(self.known), right
        return gram[:, order[:, None], order].double(), right

    def _of_bias(self, rows: Tensor, features: int) -> tuple[Tensor, Tensor]:
        size = features + int(self.geometry.has_bias)
        gram = rows.new_zeros(len(rows), size, size, dtype=torch.float64)
        right = rows.new_zeros(len(rows), size, rows.shape[-1], dtype=torch.float64)
        if self.geometry.has_bias:
            gram[:, -1, -1] = rows.shape[1]
            right[:, -1] = rows.sum(1).double()
        return gram, right

    def _add_rounded(self, gram: Tensor, right: Tensor) -> None:
        """Add what a batch gives in whole numbers of the grid."""
        assert self.grid is not None
        if self.factors is None:
            self.factors = self.grid.factors(self.geometry, gram.device)
        columns, rows = self.factors
        if self.known is None:  # else it is all zeros
            gram = gram.mul_(columns).mul_(columns.mT).round_()
        right = right.mul_(columns).mul_(rows.mT).round_()
        self.gram = gram if self.gram is None else self.gram.add_(gram)
        self.right = right if self.right is None else self.right.add_(right)

    def total(self, ranks: ProcessGroup, like: Tensor) -> None:
        """Sum over the processes; after that nothing is added. `rows` are those of all already.

        Args:
            ranks: The processes, of which this one may have added nothing.
            like: A tensor on the device of the sums.
        """
        assert self.grid is not None
        if self.gram is None or self.right is None:
            self.factors = self.grid.factors(self.geometry, like.device)
            columns, rows = self.factors
            groups, features = columns.shape[:2]
            self.gram = columns.new_zeros(groups, features, features)
            self.right = columns.new_zeros(groups, features, rows.shape[1])
        if not self.bias_only and self.known is None:
            ranks.sum_(self.gram)
        ranks.sum_(self.right)
        self._settle()
        if self.bias_only and self.geometry.has_bias:
            self.gram[:, -1, -1] = self.rows

    def _settle(self) -> None:
        """Take the factors of the grid out."""
        if self.factors is not None and self.gram is not None and self.right is not None:
            columns, rows = self.factors
            self.gram.div_(columns).div_(columns.mT)
            self.right.div_(columns).div_(rows.mT)
            self.factors = None
            self.is_settled = True

    def again(self) -> Equations:
        """Return equations that read the same positions for another right side."""
        return Equations(self.geometry, self.share, self.bias_only, self.grid, known=self.gram)

    def renewed(self, later: Equations, change: Tensor, strength: float) -> Equations:
        """Return these equations with the right side of what is lacking after a change.

        The penalty stays on the whole change.
        """
        self._settle()
        later._settle()
        assert self.gram is not None
        assert later.right is not None
        own = self.gram.shape[-1] - int(self.geometry.has_bias)
        diagonal = torch.diagonal(self.gram, dim1=-2, dim2=-1)[..., :own]
        right = later.right.clone()
        penalty = strength * diagonal.mean(-1)[:, None, None]
        right[:, :own] -= penalty * change.mT[:, :own]
        return replace(self, right=right)

    def solve(self, strength: float, *, shrink_bias: bool = False) -> Tensor | None:
        """Return what is to be added to the weight, (groups, outputs, features), float64.

        Args:
            strength: Of the penalty on the change of the weight, relative to the mean of G's
                diagonal; infinite: only the bias changes.
            shrink_bias: The bias is penalized as well.

        Returns:
            None where the equations have no finite solution.
        """
        self._settle()
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


def share_of(rows: int, features: int, least: int = LEAST_ROWS) -> float:
    """Return which share of the positions is read: enough for the unknowns, and no more."""
    wanted = max(least, math.ceil(ROWS_PER_FEATURE * min(1.0, least / FEWEST) * features))
    return min(1.0, wanted / max(rows, 1))


def geometry_of(func: object, args: tuple[Any, ...], *, has_bias: bool) -> Geometry | None:
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
