"""Where each example stands in its class: what shares a source out and draws from it evenly.

The contents of a class are put in the order of their hashes and spread evenly over [0, 1). A share
of that range is a share of every class, to one example; what is in it depends on the contents and
the seed alone. Examples that are added later push the others aside by little: only those near the
end of a share may change sides. Source: systematic sampling within strata, Cochran, Sampling
Techniques, chapters 5 and 8.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from srinit.rng import seed_for
from srinit.sources.dataset import DataSet

GOLDEN = (5**0.5 - 1) / 2  # multiples of it spread evenly: not every class rounds to the same side


def places(data: DataSet, *, seed: int, together: bool) -> npt.NDArray[np.float64]:
    """Return the place of every example in its class, in [0, 1), shape (N,).

    Without classes (tokens, no labels) all examples are one class.

    Args:
        data: The examples.
        seed: Of the order.
        together: Equal contents have one place, also where their labels differ: they belong to the
            class with the smaller index.
    """
    labels = data.labels
    strata = [0] * len(data) if labels is None else labels.tolist()
    ids = data.ids
    found = np.empty(len(data))
    groups: dict[int, list[tuple[float, list[int]]]] = defaultdict(list)
    for key, positions in _units(ids, together=together):
        stratum = min(int(strata[position]) for position in positions)
        groups[stratum].append((_hashed(key, seed), positions))
    for number, stratum in enumerate(sorted(groups)):
        offset = (_hashed("offset", seed) + number * GOLDEN) % 1
        units = sorted(groups[stratum])
        size, before = sum(len(positions) for _, positions in units), 0
        for _, positions in units:
            found[positions] = (before + offset * len(positions)) / size
            before += len(positions)
    return found


def _units(ids: Sequence[str], *, together: bool) -> list[tuple[str, list[int]]]:
    """Return the positions that stay together, with what they are ordered by."""
    if not together:
        seen: dict[str, int] = defaultdict(int)
        singles = []
        for position, content in enumerate(ids):  # the second of two equal ones stands elsewhere
            singles.append((f"{content} {seen[content] or ''}".rstrip(), [position]))
            seen[content] += 1
        return singles
    groups: dict[str, list[int]] = defaultdict(list)
    for position, content in enumerate(ids):
        groups[content].append(position)
    return list(groups.items())


def _hashed(content: str, seed: int) -> float:
    digest = hashlib.sha256(f"{seed_for('split', seed)} {content}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def bounds(shares: Sequence[float]) -> list[tuple[float, float]]:
    """Return the parts of [0, 1) that shares take, one after the other, without rounding gaps.

    Example:
        >>> bounds([0.4, 0.2, 0.4])
        [(0.0, 0.4), (0.4, 0.6), (0.6, 1.0)]
    """
    edges = [Fraction(0)]
    for share in shares:
        edges.append(edges[-1] + Fraction(str(share)))
    return [(float(low), float(high)) for low, high in pairwise(edges)]
