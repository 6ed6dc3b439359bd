"""Several draws of one unit in one batch: each group of examples meets weights of its own.

What lies behind the unit then runs once for all groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from srinit.arguments import copied
from srinit.records import record

Drawn = Callable[[int], nn.Module]
"""Gives the unit with the weights of the draw of that number."""


@record
class Group:
    """Examples `start` to `stop` of a batch, that share draw `draw`."""

    draw: int
    start: int
    stop: int


def groups_of(start: int, stop: int, per_draw: int) -> tuple[Group, ...]:
    """Return the groups of examples `start` to `stop` of a batch, counted within that range.

    Example:
        >>> [(g.draw, g.start, g.stop) for g in groups_of(6, 10, 4)]
        [(1, 0, 2), (2, 2, 4)]
    """
    edges = sorted({start, stop, *range(-(-start // per_draw) * per_draw, stop, per_draw)})
    return tuple(
        Group(draw=low // per_draw, start=low - start, stop=high - start)
        for low, high in itertools.pairwise(edges)
    )


@dataclass(frozen=True)
class Shapes:
    """What one call of a unit looked like: the shape of every tensor, None for other leaves."""

    size: int  # examples in the batch
    inputs: tuple[tuple[int, ...] | None, ...]
    outputs: tuple[tuple[int, ...] | None, ...]


@dataclass(frozen=True)
class Layout:
    """In which dimension of each tensor, in and out of a unit, the batch lies; None: nowhere."""

    inputs: tuple[int | None, ...]
    outputs: tuple[int | None, ...]

    @classmethod
    def between(cls, one: Shapes, other: Shapes) -> Layout:
        """Return the layout that two calls with different numbers of examples show.

        Raises:
            ValueError: They do not tell.
        """
        if one.size == other.size:
            raise ValueError("both calls had the same number of examples")
        return cls(
            _batch_dims(one.inputs, other.inputs, one.size, other.size),
            _batch_dims(one.outputs, other.outputs, one.size, other.size),
        )

    def grouped(
        self, groups: Sequence[Group], size: int, drawn: Drawn | None
    ) -> Callable[..., Any]:
        """Return a replacement forward: each group of a batch of `size` meets its own draw.

        What holds no examples, such as a cache to be filled, every group gets in a copy.

        Args:
            groups: They cover the batch, in order.
            size: Examples in the batch.
            drawn: None: the unit itself is called for each group.
        """

        def replacement(forward: Callable[..., Any], *args: object, **kwargs: object) -> object:
            leaves, spec = pytree.tree_flatten((args, kwargs))
            parts = []
            for group in groups:
                fresh = _rest(leaves, self.inputs)
                some = [
                    own if dim is None else _slice(leaf, dim, group, size)
                    for leaf, own, dim in zip(leaves, fresh, self.inputs, strict=True)
                ]
                some_args, some_kwargs = pytree.tree_unflatten(some, spec)
                module = forward if drawn is None else drawn(group.draw)
                parts.append(module(*some_args, **some_kwargs))
            return _joined(parts, self.outputs)

        return replacement


def shapes_of(tree: object) -> tuple[tuple[int, ...] | None, ...]:
    """Return the shape of every tensor of a tree, None for its other leaves."""
    return tuple(
        tuple(leaf.shape) if isinstance(leaf, Tensor) else None for leaf in pytree.tree_leaves(tree)
    )


def _batch_dims(shapes: Any, others: Any, size: int, other_size: int) -> tuple[int | None, ...]:
    if len(shapes) != len(others):
        raise ValueError("the unit has another number of arguments each time")
    pairs = zip(shapes, others, strict=True)
    return tuple(_batch_dim(one, other, size, other_size) for one, other in pairs)


def _batch_dim(shape: Any, other: Any, size: int, other_size: int) -> int | None:
    """Return the dimension that grows with the number of examples; None where none does."""
    if shape is None or other is None:
        return None
    if len(shape) != len(other):
        raise ValueError("the unit's tensors have another number of dimensions each time")
    found = [dim for dim, pair in enumerate(zip(shape, other, strict=True)) if pair[0] != pair[1]]
    if not found:
        return None
    dim = found[0]
    if len(found) > 1 or shape[dim] * other_size != other[dim] * size or shape[dim] % size:
        raise ValueError("the unit's tensors do not grow in step with the number of examples")
    return dim


def _rest(leaves: Sequence[Any], dims: Sequence[int | None]) -> list[Any]:
    """Return copies of the leaves that no batch dimension splits, None in the others' places."""
    rest = [leaf if dim is None else None for leaf, dim in zip(leaves, dims, strict=True)]
    found: list[Any] = copied(rest)
    return found


def _slice(tensor: Tensor, dim: int, group: Group, size: int) -> Tensor:
    each = tensor.shape[dim] // size
    return tensor.narrow(dim, group.start * each, (group.stop - group.start) * each)


def _joined(parts: Sequence[Any], dims: Sequence[int | None]) -> object:
    flat = [pytree.tree_flatten(part) for part in parts]
    leaves = [
        flat[0][0][index]
        if dim is None
        else torch.cat([part_leaves[index] for part_leaves, _ in flat], dim)
        for index, dim in enumerate(dims)
    ]
    return pytree.tree_unflatten(leaves, flat[0][1])
