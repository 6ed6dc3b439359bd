"""The linear maps of a cut network that can be solved again, and what each is to reach.

A map's output is followed through steps that are linear in it (views, normalization by fixed
statistics, scales, additions) to where something else begins; there its target is set. Least
squares towards a trained network's responses: channel pruning, https://arxiv.org/abs/1707.06168,
section 3; here the response of a map that ends a branch is the residual stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from srinit.realignment.alignment import Alignment, Side
from srinit.realignment.records import LeftMap
from srinit.recording import ADDITIONS, short

MAPS = ("convolution", "addmm", "mm")
VIEWS = frozenset(
    ["view", "_unsafe_view", "reshape", "permute", "transpose", "t", "clone", "contiguous", "alias",
     "detach", "squeeze", "unsqueeze", "flatten", "unflatten", "roll", "movedim", "swapaxes",
     "native_dropout", "dropout", "pixel_shuffle"]
)  # fmt: skip
NORMS = frozenset(
    ["native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
     "cudnn_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update"]
)  # fmt: skip
SCALES = frozenset(["mul", "div"])
RELUS = frozenset(["relu", "relu6", "hardtanh"])
Kind = Literal["view", "scale", "norm", "shift"]
Closure = Literal["none", "relu", "relu6", "layer_norm"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step from a map's output on that is linear in it."""

    op: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class LinearMap:
    """A convolution or linear layer, where its output ends, and what is to stand there."""

    name: str  # key of its weight in the cut network's state dict
    weight: int  # id of the weight
    op: int
    steps: tuple[Step, ...]
    value: int  # of the cut network: what is to reach the target
    target: int  # of the unpruned network
    closure: Closure  # what stands between value and target
    act: int | None  # operation of the closure
    joins: bool  # whether an addition joins it to a stream
    bridges: bool  # whether removed units lie between value and target
    is_shared: bool = False  # whether its weight is used elsewhere as well, and may not change

    @property
    def end(self) -> int:
        """The operation that makes `value`."""
        return self.steps[-1].op if self.steps else self.op


def find_maps(aligned: Alignment, named: dict[int, str]) -> tuple[list[LinearMap], list[LeftMap]]:
    """Return the maps of the cut network behind the first cut, and those that are left as they are.

    Maps whose weight is used several times are among both: what stands behind one may change.

    Args:
        aligned: Both networks.
        named: Keys of the cut network's parameters and buffers, by id.
    """
    finder = _Finder(aligned, named)
    return finder.found()


class _Finder:
    def __init__(self, aligned: Alignment, named: dict[int, str]) -> None:
        self.aligned, self.named = aligned, named
        self.side: Side = aligned.student
        self.trace, self.facts = self.side.trace, self.side.facts
        self.readers_of: dict[int, set[int]] = {}
        for index, params in enumerate(self.side.params):
            if self.side.data(index):
                for param in params:
                    self.readers_of.setdefault(param, set()).add(index)

    def found(self) -> tuple[list[LinearMap], list[LeftMap]]:
        maps: list[LinearMap] = []
        left: list[tuple[int, LeftMap]] = []
        for index in range(len(self.trace.ops)):
            if not self.facts.heavy(index):
                continue
            weights = [p for p in self.side.params[index] if self._is_weight(p)]
            name = self.named.get(weights[0], "") if weights else f"operation {index}"
            made = self._map(index, name, weights)
            if isinstance(made, LinearMap):
                maps.append(made)
            if isinstance(made, str) or made.is_shared:
                reason = made if isinstance(made, str) else "its weight is used several times"
                left.append((index, LeftMap(name=name, reason=reason)))
        begins = min([self.aligned.begins, *(m.op for m in maps if m.bridges)])
        behind = sorted((m for m in maps if m.op >= begins), key=lambda m: (m.end, m.op))
        return behind, [each for index, each in left if index >= begins]

    def _is_weight(self, param: int) -> bool:
        return self.named.get(param, "").rpartition(".")[2] not in ("bias", "in_proj_bias")

    def _map(self, index: int, name: str, weights: list[int]) -> LinearMap | str:
        op = self.trace.ops[index]
        if short(op) not in MAPS:
            return f"{short(op)} is no map that is solved here"
        if not weights or weights[0] not in self.named:
            return "its weight is computed from other parameters"
        weight = weights[0]
        times = len(self.readers_of.get(weight, ()))
        if times > 1 and times != self._times_there(weight):
            return "its weight is used several times, not as often as in the unpruned network"
        if len(self.side.data(index)) != 1:
            return "both of its factors depend on the inputs"
        steps, value, joins = self._follow(index)
        if value in self.facts.final:
            return "its output is the network's answer"
        theirs = self.aligned.steps.get(index)
        if theirs is None:
            return "the unpruned network has no such map"
        target = self._target(value, theirs, steps, joins=joins)
        if target is None:
            return "no value of the unpruned network stands where its output goes"
        goal, closure, act, bridges = target
        if self.aligned.teacher.trace.maker[goal] is None:
            return "its target would be an input of the network"
        mine, other = self.trace.shapes[value], self.aligned.teacher.trace.shapes[goal]
        if mine != other:
            return f"its output has shape {mine[1:]} there, the unpruned network {other[1:]}"
        return LinearMap(
            name, weight, index, tuple(steps), value, goal, closure, act, joins, bridges, times > 1
        )

    def _times_there(self, weight: int) -> int:
        """Return how many operations of the unpruned network read a weight."""
        name, side = self.side.names.get(weight), self.aligned.teacher
        ids = {number for number, key in side.names.items() if key == name}
        return sum(
            bool(ids & set(params)) and bool(side.data(index))
            for index, params in enumerate(side.params)
        )

    def _follow(self, index: int) -> tuple[list[Step], int, bool]:
        """Return the linear steps behind a map, the value they end in, and whether it is a sum."""
        value, steps, joins = self.trace.ops[index].outputs[0], [], False
        while True:
            readers = self.facts.readers(value)
            if len(readers) != 1 or value in self.facts.final:
                break
            kind, adds = self._kind(readers[0], value)
            if kind is None:
                break
            steps.append(Step(readers[0], kind))
            value, joins = self.trace.ops[readers[0]].outputs[0], joins or adds
        return steps, value, joins

    def _kind(self, index: int, value: int) -> tuple[Kind | None, bool]:
        op, data = self.trace.ops[index], self.side.data(index)
        name = short(op)
        if name in VIEWS and data == [value] and len(op.outputs) <= 2:
            return "view", False
        if name in NORMS and data == [value]:
            return "norm", False
        if name in SCALES and data == [value]:
            return "scale", False
        if name in (*ADDITIONS, "sub") and data.count(value) == 1:
            return "shift", len(data) == 2
        return None, False

    def _target(
        self, value: int, theirs: int, steps: list[Step], *, joins: bool
    ) -> tuple[int, Closure, int | None, bool] | None:
        """Return the teacher's value, what lies between, and whether removed units do."""
        own = self._same_walk(theirs, steps)
        behind, closure, act = self._behind(value)
        if behind is not None and act is not None:
            there = self.aligned.value(behind)
            maker = None if there is None else self.aligned.teacher.trace.maker[there]
            is_same = self._is_after(own, there)
            if there is not None and closure in ("relu", "relu6"):
                makes = maker is not None and short(self.aligned.teacher.trace.ops[maker]) in RELUS
                if makes and (joins or not is_same):
                    return there, closure, act, not is_same
            if there is not None and closure == "layer_norm" and not is_same and maker is not None:
                return there, closure, act, True
        direct = self.aligned.value(value)
        if direct is not None and (joins or behind is None):
            return direct, "none", None, direct != own
        if own is not None and not joins:
            return own, "none", None, False
        return (direct, "none", None, direct != own) if direct is not None else None

    def _behind(self, value: int) -> tuple[int | None, Closure, int | None]:
        """Return the value behind one activation or layer norm that alone reads `value`."""
        closure: Closure = "none"
        act: int | None = None
        behind: int | None = None
        while True:
            readers = self.facts.readers(value)
            if len(readers) != 1:
                return behind, closure, act
            op = self.trace.ops[readers[0]]
            name = short(op)
            kind: Closure = "none"
            if name == "relu":
                kind = "relu"
            elif name in ("hardtanh", "relu6"):
                kind = "relu6"
            elif name == "native_layer_norm" and closure == "none":
                kind = "layer_norm"
            if kind == "none" or (closure != "none" and kind != closure):
                return behind, closure, act
            closure = kind
            act = readers[0] if act is None else act
            value = behind = op.outputs[0]

    def _same_walk(self, theirs: int, steps: list[Step]) -> int | None:
        """Return where the same steps from the same map lead to in the unpruned network."""
        trace = self.aligned.teacher.trace
        value = trace.ops[theirs].outputs[0]
        for step in steps:
            readers = self.aligned.teacher.facts.readers(value)
            same = [r for r in readers if short(trace.ops[r]) == short(self.trace.ops[step.op])]
            if not same:
                return None
            value = trace.ops[same[0]].outputs[0]
        return value

    def _is_after(self, own: int | None, there: int | None) -> bool:
        """Tell whether a value of the teacher is one step behind another."""
        if own is None or there is None:
            return False
        trace = self.aligned.teacher.trace
        maker = trace.maker[there]
        while maker is not None and short(trace.ops[maker]) in (*RELUS, "native_layer_norm"):
            source = trace.ops[maker].inputs[0]
            if source == own:
                return True
            maker = trace.maker[source]
        return False


def closed(
    target: Tensor, own: Tensor, closure: Closure, norm: tuple[Tensor, Tensor, float] | None
) -> Tensor:
    """Return what `own` is to be so that `target` stands behind the activation or norm.

    Where an activation is flat, its own value stays as far as it is flat there too. A layer norm
    leaves mean and spread free: those of `own` stay.

    Args:
        target: The unpruned network's value behind the closure.
        own: The cut network's value before it.
        closure: What lies between.
        norm: (weight, bias, eps) of a layer norm over the last dimension.
    """
    if closure == "relu":
        return torch.where(target > 0, target, own.clamp(max=0))
    if closure == "relu6":
        inner = torch.where(target > 0, target, own.clamp(max=0))
        return torch.where(target >= 6, own.clamp(min=6), inner)
    if closure == "layer_norm" and norm is not None:
        weight, bias, eps = norm
        mean = own.mean(-1, keepdim=True)
        spread = (own.var(-1, keepdim=True, unbiased=False) + eps).sqrt()
        return (target - bias) / weight * spread + mean
    return target
