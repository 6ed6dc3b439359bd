"""Sums of products of columns over many rows, the cheapest way that a device has.

On a CPU oneDNN's matrix products are taken: MKL, which `@` asks, takes twice the time on
processors that Intel did not make. Both multiply in 32 bits.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

WIDE, STRIPS = 96, 4  # from so many features on, products are computed in so many strips

# G groups, R rows, F features, O outputs of a group


def sums_of(columns: Tensor, rows: Tensor, *, has_bias: bool, gram: bool) -> tuple[Tensor, Tensor]:
    """Return the products of all features (G, F, F), and of features and outputs (G, F, O).

    Args:
        columns: (G, R, F) without the 1 of a bias.
        rows: (G, R, O).
        has_bias: A feature that is always 1 comes last.
        gram: Whether the first is wanted; else it is empty.
    """
    if len(columns) == 1 and _has_products(columns):
        return _by_onednn(columns[0], rows[0], has_bias=has_bias, gram=gram)
    if has_bias:
        columns = torch.cat([columns, columns.new_ones(*columns.shape[:2], 1)], 2)
    found = _squared(columns) if gram else columns.new_empty(0)
    return found, _product(columns, rows)


def _has_products(like: Tensor) -> bool:
    is_known = like.device.type == "cpu" and like.dtype == torch.float32
    is_there = torch._C._has_mkldnn and torch._C._get_mkldnn_enabled()
    return is_known and is_there and torch.cpu._is_avx2_supported()


def _by_onednn(
    columns: Tensor, rows: Tensor, *, has_bias: bool, gram: bool
) -> tuple[Tensor, Tensor]:
    count, features = columns.shape
    flat = columns.new_empty(features + int(has_bias), count)
    flat[:features] = columns.T
    flat[features:] = 1.0
    right = _times(rows.T.contiguous(), flat).T[None]
    if not gram:
        return columns.new_empty(0), right
    size = len(flat)
    found = flat.new_empty(1, size, size)
    for begin, end in _strips(size):
        strip = _times(flat[begin:end], flat[begin:])
        found[0, begin:end, begin:] = strip
        found[0, begin:, begin:end] = strip.T
    return found, right


def _times(one: Tensor, other: Tensor) -> Tensor:
    """Return the products of the rows of both; both contiguous, or it takes very long."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(one, other, None, "none", [], "")
    return found


def _strips(size: int) -> list[tuple[int, int]]:
    """Return parts of the features: of a symmetric matrix the half above the diagonal is made."""
    count = STRIPS if size >= WIDE else 1
    return list(itertools.pairwise(size * number // count for number in range(count + 1)))


def _product(one: Tensor, other: Tensor) -> Tensor:
    return (one[0].T @ other[0])[None] if len(one) == 1 else one.mT @ other


def _squared(columns: Tensor) -> Tensor:
    groups, _, features = columns.shape
    if features < WIDE and groups == 1:
        return _product(columns, columns)
    found = columns.new_empty(groups, features, features)
    if features < WIDE:
        for one in range(features):  # many groups of few features: no matter for a matrix product
            row = (columns[..., one : one + 1] * columns[..., one:]).sum(1)
            found[:, one, one:] = found[:, one:, one] = row
        return found
    for begin, end in _strips(features):
        strip = _product(columns[..., begin:end], columns[..., begin:])
        found[:, begin:end, begin:] = strip
        found[:, begin:, begin:end] = strip.mT
    return found
