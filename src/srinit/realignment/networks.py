"""The unpruned and the cut network, recorded, and the maps to solve in the order of computation."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from srinit.realignment.alignment import Alignment, Side, module_names
from srinit.realignment.maps import LinearMap, find_maps
from srinit.realignment.teacher import Teacher, keys_of, recorded
from srinit.recording import TraceIndex, record, short

BIASES = ("bias", "in_proj_bias")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardtanh": F.relu6,
    "silu": F.silu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
}


class Networks:
    """Both networks with one recorded forward of each.

    Args:
        teacher: The unpruned network on its batches, recorded.
        pruned: The cut one.
        origins: For keys of its state dict the keys of the same tensors in the unpruned network.
        only: Which maps are solved.
        folds: Of maps only what they put out changes, by another linear map.
    """

    def __init__(
        self,
        teacher: Teacher,
        pruned: nn.Module,
        origins: Mapping[str, str],
        only: Callable[[LinearMap], bool],
        *,
        folds: bool = False,
    ) -> None:
        self.unpruned, self.model, self.pruned = teacher, teacher.model, pruned
        self.folds = folds
        theirs, self.own = keys_of(teacher.model), keys_of(pruned)
        first = {  # of several keys of one tensor
            key: theirs[id(tensor)]
            for key, tensor in teacher.model.state_dict(keep_vars=True).items()
            if id(tensor) in theirs
        }
        names = {n: first[origins[key]] for n, key in self.own.items() if origins.get(key) in first}
        few = recorded(teacher.batches[0])
        self.teacher = teacher.side
        self.student = Side(TraceIndex(pruned, record(pruned, few)), names)
        aligned = Alignment(self.teacher, self.student, module_names(self.student.facts, origins))
        maps, left = find_maps(aligned, self.own)
        self.left = list(dict.fromkeys(left))  # a map that is used several times is named once
        self.tensors = dict(pruned.state_dict(keep_vars=True))
        self.repeated = _repeated(pruned) | _read_often(self.student)
        self.maps = [m for m in maps if only(m) and (not m.is_shared or (folds and self.norm(m)))]

    def live_bytes(self) -> int:
        """Return the most bytes an example's live values take in both networks where maps end.

        What comes behind the last map, a language model's answers say, is never waited for.
        """
        makers = [self.teacher.trace.maker[each.target] or 0 for each in self.maps]
        last = max(makers, default=0), max((each.end for each in self.maps), default=0)
        sides = (self.teacher, self.student)
        return sum(_live(side, until) for side, until in zip(sides, last, strict=True))

    def bias(self, each: LinearMap) -> tuple[str, int | None] | None:
        """Return the key of the bias that may change, and the normalization that reads it."""
        is_scaled = False
        for index, kind in [(each.op, "map"), *((step.op, step.kind) for step in each.steps)]:
            for param in self.student.trace.ops[index].params:
                key = self.own.get(param, "")
                is_free = kind in ("map", "norm") or (kind == "shift" and not is_scaled)
                if key.rpartition(".")[2] in BIASES and is_free and param not in self.repeated:
                    return key, index if kind == "norm" else None
            is_scaled = is_scaled or kind in ("norm", "scale")
        return None

    def reads(self, index: int, key: str) -> bool:
        """Return whether an operation itself reads a parameter."""
        return key in {self.own.get(p) for p in self.student.trace.ops[index].params}

    def reads_weight_directly(self, each: LinearMap) -> bool:
        """Return whether a map multiplies by its weight as it is stored."""
        return each.weight in self.student.trace.ops[each.op].params

    def norm(self, each: LinearMap) -> int | None:
        """Return the normalization right behind a map whose weight and bias nothing else reads."""
        step = next((step for step in each.steps if step.kind != "view"), None)
        if step is None or step.kind != "norm":
            return None
        params = self.student.trace.ops[step.op].params
        kinds = {self.own.get(param, "").rpartition(".")[2] for param in params}
        is_free = not self.repeated & set(params)
        return step.op if is_free and {"weight", "bias"} <= kinds else None

    def layer_norm(self, each: LinearMap) -> tuple[Tensor, Tensor, float] | None:
        """Return weight, bias and eps of the layer norm behind a map, where that is its closure."""
        if each.closure != "layer_norm" or each.act is None:
            return None
        keys = [self.own[p] for p in self.student.trace.ops[each.act].params if p in self.own]
        if len(keys) != 2:
            return None
        module: Any = self.pruned.get_submodule(keys[0].rpartition(".")[0])
        return module.weight.detach(), module.bias.detach(), float(module.eps)

    def activation(self, each: LinearMap) -> Callable[[Tensor], Tensor] | None:
        """Return the activation that alone reads where a map ends; None where there is none."""
        readers = self.student.facts.readers(each.value)
        if len(readers) != 1:
            return None
        op = self.student.trace.ops[readers[0]]
        return ACTIVATIONS.get(short(op))

    def norm_keys(self, index: int) -> dict[str, str]:
        """Return the keys of a normalization's parameters and buffers, by their last name."""
        params = self.student.trace.ops[index].params
        keys = [self.own[p] for p in params if p in self.own]
        return {key.rpartition(".")[2]: key for key in keys}

    def norm_scale(self, index: int) -> Tensor:
        """Return the factor of each channel in a normalization by fixed statistics."""
        keys = self.norm_keys(index)
        found = {last: self.tensors[key] for last, key in keys.items()}
        module: Any = self.pruned.get_submodule(keys["running_var"].rpartition(".")[0])
        factor: Tensor = (found["running_var"].detach() + float(module.eps)).rsqrt()
        return factor * found["weight"].detach() if "weight" in found else factor


def _repeated(model: nn.Module) -> frozenset[int]:
    """Return the ids of parameters that are registered several times."""
    times = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    return frozenset(number for number, count in times.items() if count > 1)


def _read_often(side: Side) -> frozenset[int]:
    """Return the ids of parameters that several steps of a forward read."""
    times = Counter(p for i, found in enumerate(side.params) if side.data(i) for p in set(found))
    return frozenset(number for number, count in times.items() if count > 1)


def _live(side: Side, until: int) -> int:
    """Return the most bytes per example that live at a time in a recorded forward."""
    trace = side.trace
    changes = [0] * (len(trace.ops) + 2)
    for value, maker in enumerate(trace.maker):
        if maker is None or value in side.facts.weights:
            continue
        size = math.prod(trace.shapes[value]) * trace.dtypes[value].itemsize
        changes[maker] += size
        changes[max([maker, *side.facts.readers(value)]) + 1] -= size
    return max(itertools.accumulate(changes[: until + 1])) // trace.batch
