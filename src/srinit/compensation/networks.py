"""The unpruned and the cut network, recorded, and the maps to solve in the order of computation."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from srinit.compensation.alignment import Alignment, Side, module_names
from srinit.compensation.maps import LinearMap, find_maps
from srinit.compensation.teacher import Teacher, keys_of, recorded
from srinit.units.facts import Facts
from srinit.units.rule import short
from srinit.units.trace import record

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
    """

    def __init__(
        self,
        teacher: Teacher,
        pruned: nn.Module,
        origins: Mapping[str, str],
        only: Callable[[LinearMap], bool],
    ) -> None:
        self.unpruned, self.model, self.pruned = teacher, teacher.model, pruned
        self.own = keys_of(pruned)
        names = {number: origins[key] for number, key in self.own.items() if key in origins}
        few = recorded(teacher.batches[0])
        self.teacher = teacher.side
        self.student = Side(Facts(pruned, record(pruned, few)), names)
        aligned = Alignment(self.teacher, self.student, module_names(self.student.facts, origins))
        maps, self.left = find_maps(aligned, self.own)
        self.maps = [each for each in maps if only(each)]
        self.tensors = dict(pruned.state_dict(keep_vars=True))
        self.repeated = _repeated(pruned)

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

    def norm_scale(self, index: int) -> Tensor:
        """Return the factor of each channel in a normalization by fixed statistics."""
        params = self.student.trace.ops[index].params
        keys = [self.own[p] for p in params if p in self.own]
        found = {key.rpartition(".")[2]: self.tensors[key] for key in keys}
        module: Any = self.pruned.get_submodule(keys[0].rpartition(".")[0])
        factor: Tensor = (found["running_var"].detach() + float(module.eps)).rsqrt()
        return factor * found["weight"].detach() if "weight" in found else factor


def _repeated(model: nn.Module) -> frozenset[int]:
    """Return the ids of parameters that are registered several times."""
    times = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
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
