"""Linear centered kernel alignment: how alike two representations of the same examples are."""

from __future__ import annotations

import torch
from torch import Tensor


def biased_cka(one: Tensor, other: Tensor) -> float:
    """Return the linear CKA of two representations (N, D) and (N, E) as published.

    In [0, 1]; 1 up to rotation and scale. Few examples with many features look alike by
    themselves. A representation that never varies gives 0 with any other, and 1 with one that
    never varies either. Source: Kornblith et al., Similarity of Neural Network Representations
    Revisited, equation 1 with the linear kernel, https://arxiv.org/abs/1905.00414.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 5.0]])
        >>> round(biased_cka(x, 3 * x.flip(1)), 6)
        1.0
    """
    one, other = _centered(one), _centered(other)
    if max(one.shape[1], other.shape[1]) > len(one):  # the same numbers, from smaller products
        one, other = one @ one.T, other @ other.T
        cross, size = float((one * other).sum()), float(one.norm() * other.norm())
    else:
        cross = float((other.T @ one).square().sum())
        size = float((one.T @ one).norm() * (other.T @ other).norm())
    if size == 0:
        return float(not one.any() and not other.any())
    return min(1.0, cross / size)


def unbiased_cka(one: Tensor, other: Tensor) -> float | None:
    """Return the linear CKA of (N, D) and (N, E) with the unbiased estimate of HSIC.

    About 1 for the same. Few examples with many features do not look alike by themselves; the
    price is noise, and values a little outside [0, 1]. Source: Song et al., Journal of Machine
    Learning Research 13, 2012, https://jmlr.org/papers/v13/song12a.html.

    Returns:
        None where a representation is constant, or there are fewer than four examples.

    Example:
        >>> x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
        >>> round(unbiased_cka(x, 3 * x.flip(1)), 6)
        1.0
    """
    if len(one) < 4:
        return None
    one, other = _gram(one), _gram(other)
    size = _hsic(one, one), _hsic(other, other)
    if min(size) <= 0:
        return None
    return _hsic(one, other) / float((size[0] * size[1]) ** 0.5)


def _centered(features: Tensor) -> Tensor:
    features = features.to(torch.float64)
    return features - features.mean(0)


def _gram(features: Tensor) -> Tensor:
    centered = _centered(features)
    return (centered @ centered.T).fill_diagonal_(0.0)


def _hsic(one: Tensor, other: Tensor) -> float:
    count = len(one)
    total = float((one * other).sum())
    total += float(one.sum() * other.sum()) / ((count - 1) * (count - 2))
    total -= 2 * float(one.sum(0) @ other.sum(0)) / (count - 2)
    return total / (count * (count - 3))
