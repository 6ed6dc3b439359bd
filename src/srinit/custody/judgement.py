"""The judgement of a run, derived again from its predictions and limits before it counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from srinit.comparison import Comparison, compare_outcomes
from srinit.errors import IntegrityError
from srinit.evaluate import Outcomes
from srinit.records import plain

EXACT = 1e-9  # relative; another processor sums in another order


def compared_again(
    arrays: Mapping[str, Any],
    recorded: Comparison,
    *,
    class_names: Sequence[str],
    terms: Mapping[str, Any],
    documents: npt.NDArray[Any] | None = None,
) -> Comparison:
    """Return the comparison that the kept predictions come to.

    Latency and cost cannot be derived and are taken as they are on record.

    Args:
        arrays: What `predictions.npz` holds.
        recorded: The comparison on record.
        class_names: Of the task.
        terms: What errors mean: keyword arguments of `compare_outcomes`.
        documents: Which document each example belongs to, of texts.
    """
    pair = [
        Outcomes(**{k.removeprefix(side): v for k, v in arrays.items() if k.startswith(side)})
        for side in ("baseline_", "pruned_")
    ]
    return compare_outcomes(
        *pair,
        class_names=class_names,
        **terms,
        cost=recorded.cost,
        latency=recorded.latency,
        documents=documents,
        data=recorded.data,
        data_hash=recorded.data_hash,
    )


def check_same(recorded: Any, derived: Any, where: str) -> None:
    """Raise `IntegrityError` where two records differ by more than rounding; the place is named.

    Example:
        >>> check_same({"drop": 0.1}, {"drop": 0.3}, "gate.json")
        Traceback (most recent call last):
        ...
        srinit.errors.IntegrityError: gate.json: drop is 0.1 on record, but predictions and ...
    """
    found = _first_difference(plain(recorded), plain(derived), "")
    if found is not None:
        place, one, other = found
        raise IntegrityError(
            f"{where}: {place.strip('.')} is {one!r} on record, but predictions and limits of the "
            f"run give {other!r}. The record was edited, or the run was judged by other limits; it "
            "is not used. Begin a new run."
        )


def _first_difference(one: Any, other: Any, place: str) -> tuple[str, Any, Any] | None:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            found = _first_difference(one.get(key), other.get(key), f"{place}.{key}")
            if found is not None:
                return found
        return None
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            found = _first_difference(a, b, f"{place}.{number}")
            if found is not None:
                return found
        return None
    if isinstance(one, float | int) and isinstance(other, float | int):
        same = one is other or math.isclose(one, other, rel_tol=EXACT, abs_tol=1e-12)
    else:
        same = one == other
    return None if same else (place, one, other)
