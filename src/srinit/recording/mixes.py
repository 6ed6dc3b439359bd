"""Gated sums: additions that mix a branch and what it starts from, with weights that add up to one.

`t * h(x) + (1 - t) * x` (highway networks), `torch.lerp`, `torch.where`, an average. Without `h`
such a sum is `x`, not `(1 - t) * x`. That it is one is proved by computing it again on random
numbers: with `x` in the place of `h(x)` it must give `x` back, whatever the gate is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Protocol

import torch
from torch import Tensor

from srinit.recording.operations import short
from srinit.recording.trace import Mix, Op, Trace, Value, Weight
from srinit.rng import generator

SUMS = frozenset(["add", "sub", "rsub", "lerp", "where", "addcmul", "mul", "div"])
NEAR, DEPTH = 12, 60  # values of a sum's shape, and of any, that are looked at
CLOSE = 1e-3  # relative; independent random numbers are nowhere near
TRIALS = 2


class Terms(Protocol):
    """What a sum is made of: values by their keys, each computed from others or a leaf."""

    def parts(self, key: Any) -> list[Any] | None:
        """Return the values that one is computed from; None for a leaf."""

    def compute(self, key: Any, value_of: Callable[[Any], Tensor], trial: int) -> Tensor:
        """Return one that is no leaf."""

    def leaf(self, key: Any, trial: int) -> Tensor:
        """Return a random tensor, the same for the same key and trial, or a weight."""

    def full(self, key: Any) -> bool:
        """Tell whether a value may have the shape of the sum."""

    def comes_from(self, key: Any, source: Any) -> bool:
        """Tell whether a value was computed from another one through parameters."""


def mix(terms: Terms, sink: Hashable) -> Iterator[Mix]:
    """Yield the ways in which a value is a gated sum: with one branch, else with all."""
    full, leaves = _reach(terms, sink)
    pairs = [Mix(keep, frozenset([other])) for keep, other in permutations(full, 2)]
    every = [Mix(keep, frozenset(leaves) - {keep}) for keep in leaves if len(leaves) > 2]
    for found in (*pairs, *every):
        fits = all(terms.comes_from(value, found.keep) for value in found.branch)
        if fits and all(_gives_back(terms, sink, found, trial) for trial in range(TRIALS)):
            yield found


def _reach(terms: Terms, sink: Hashable) -> tuple[list[Any], list[Any]]:
    """Return the nearest values of its shape that a sum is computed from; the leaves of them."""
    full: list[Any] = []
    leaves: list[Any] = []
    waiting, seen = [sink], {sink}
    while waiting and len(full) < NEAR and len(seen) < DEPTH:
        key = waiting.pop(0)
        parts = terms.parts(key)
        if key != sink and terms.full(key):
            full.append(key)
            if parts is None:
                leaves.append(key)
        for part in parts or ():
            if part not in seen:
                seen.add(part)
                waiting.append(part)
    return full, leaves


def _gives_back(terms: Terms, sink: Hashable, found: Mix, trial: int) -> bool:
    """Tell whether a sum is what it keeps once that takes the place of the branch.

    It must also go up by as much for a change of the branch as down for the opposite one: a
    branch is mixed in, and never itself the gate.
    """
    try:
        kept, alone = _computed(terms, sink, found, trial, 0)
        if not _close(alone, kept):
            return False
        _, more = _computed(terms, sink, found, trial, 1)
        _, less = _computed(terms, sink, found, trial, -1)
    except Exception:  # random numbers may not fit what the code does with them
        return False
    return _close(more + less, 2 * kept) and not _close(more, kept)


def _computed(
    terms: Terms, sink: Hashable, found: Mix, trial: int, step: int
) -> tuple[Tensor, Tensor]:
    """Return what a sum keeps, and the sum with that, and a random step, as its branch."""
    known: dict[Any, Tensor] = {}

    def value_of(key: Hashable) -> Tensor:
        if key not in known:
            if key in found.branch:
                kept = value_of(found.keep)
                draw = random_leaf(tuple(kept.shape), kept.dtype, trial, f"step {key}")
                known[key] = kept + step * draw.to(kept.dtype)
            elif key == found.keep or terms.parts(key) is None:
                known[key] = terms.leaf(key, trial)
            else:
                known[key] = terms.compute(key, value_of, trial)
        return known[key]

    return value_of(found.keep), value_of(sink)


def _close(one: Tensor, other: Tensor) -> bool:
    same = one.shape == other.shape
    return same and bool(torch.allclose(one.double(), other.double(), rtol=CLOSE, atol=CLOSE))


def random_leaf(shape: tuple[int, ...], dtype: torch.dtype, trial: int, key: Hashable) -> Tensor:
    """Return random numbers of a place: normal ones in double precision, or truth values."""
    draw = torch.randn(shape, generator=generator("mix", trial, str(key)), dtype=torch.float64)
    return draw if dtype.is_floating_point else (draw > 0).to(dtype)


def plain_weight(weight: Tensor, trial: int, key: Hashable) -> Tensor:
    """Return the numbers of a weight in double precision; random ones where it holds none."""
    if weight.is_meta:
        return random_leaf(tuple(weight.shape), weight.dtype, trial, key)
    here = weight.detach().cpu()
    return here.double() if here.is_floating_point() else here.clone()


@dataclass(frozen=True, slots=True)
class Recorded:
    """The terms of an operation of a recorded forward; keys are numbers of values."""

    trace: Trace
    weights: Mapping[int, Tensor]  # parameters and buffers by id
    sink: int

    def parts(self, key: int) -> list[int] | None:
        """Return the values that an operation read, where it can be computed again."""
        op = self._op(key)
        return None if op is None or op.again is None else list(op.inputs)

    def compute(self, key: int, value_of: Callable[[Any], Tensor], trial: int) -> Tensor:
        """Return a value of an operation, computed again."""
        op = self._op(key)
        assert op is not None
        assert op.again is not None

        def filled(tree: Any) -> Any:
            if isinstance(tree, Value):
                return value_of(tree.number).clone()
            if isinstance(tree, Weight):
                return plain_weight(self.weights[tree.number], trial, tree.number)
            if isinstance(tree, dict):
                return {name: filled(value) for name, value in tree.items()}
            return [filled(value) for value in tree] if isinstance(tree, list) else tree

        result = op.again.function(*filled(op.again.args), **filled(op.again.kwargs))
        results = [result] if isinstance(result, Tensor) else list(result)
        return results[op.outputs.index(key)]

    def leaf(self, key: int, trial: int) -> Tensor:
        """Return random numbers of a value's shape."""
        return random_leaf(self.trace.shapes[key], self.trace.dtypes[key], trial, key)

    def full(self, key: int) -> bool:
        """Tell whether a value has the shape and dtype of the sum."""
        trace = self.trace
        same = trace.shapes[key] == trace.shapes[self.sink]
        return same and trace.dtypes[key] == trace.dtypes[self.sink]

    def comes_from(self, key: int, source: int) -> bool:
        """Tell whether a value was computed from another one with the help of parameters."""
        first = self.trace.maker[source]
        waiting, seen, weighted = [key], {key}, False
        while waiting:
            made = self.trace.maker[waiting.pop()]
            if made is None or (first is not None and made <= first):
                continue
            op = self.trace.ops[made]
            weighted = weighted or op.uses_params
            waiting += [value for value in op.inputs if value not in seen and value != source]
            seen.update(op.inputs)
        return source in seen and key != source and weighted

    def _op(self, key: int) -> Op | None:
        made = self.trace.maker[key]
        return None if made is None else self.trace.ops[made]


def find_mixes(trace: Trace, weights: Mapping[int, Tensor]) -> dict[int, Mix]:
    """Return the gated sums of a recorded forward by the operations that make them."""
    found: dict[int, Mix] = {}
    for index, op in enumerate(trace.ops):
        if short(op) not in SUMS or len(op.outputs) != 1 or not _may_mix(trace, op):
            continue
        terms = Recorded(trace, weights, op.outputs[0])
        one = next(mix(terms, op.outputs[0]), None)
        if one is not None:
            found[index] = one
    return found


def _may_mix(trace: Trace, op: Op) -> bool:
    """Tell whether an operation could end a gated sum; plain residual additions cannot."""
    if not trace.shapes[op.outputs[0]] or not trace.dtypes[op.outputs[0]].is_floating_point:
        return False
    name = short(op)
    if name in ("lerp", "where"):
        return len(op.inputs) > 1
    makers = [trace.maker[value] for value in op.inputs]
    before = [short(trace.ops[made]) for made in makers if made is not None]
    if name in ("mul", "div"):  # an average
        return len(op.inputs) == 1 and before[:1] in (["add"], ["sub"], ["sum"])
    scaled = [one for one in before if one in ("mul", "div", "addcmul", "lerp", "where", "neg")]
    return len(op.inputs) > 1 and len(scaled) > (1 if name != "addcmul" else 0)
