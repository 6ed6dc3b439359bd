"""Realignment: every linear map behind a cut solved again towards the unpruned network's stream.

Two networks are walked through in lockstep. Where a map of the cut one ends, what its output lacks of the
unpruned network's value there is regressed on its inputs, its weight is changed, and the walk goes on with
what it gives now. Nothing is added to the network, nothing is trained and no label is read.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.compensate.alignment import Alignment, Side, module_names
from srinit.compensate.equations import Equations, Geometry, geometry_of, share_of
from srinit.compensate.lockstep import Halting
from srinit.compensate.maps import LeftMap, LinearMap, closed, find_maps
from srinit.compensate.replay import Replay, adjoint, base, carried, linear_part, squared_scale
from srinit.units.facts import Facts
from srinit.units.trace import record

Progress = Callable[[int, int], None]
Sum = Callable[[Sequence[Tensor]], None]
TINY = 1e-8  # squared scale of a channel, relative to the largest, below which it is dead
BIASES = ("bias", "in_proj_bias")
BUDGET = 2 << 30  # bytes of live activations that may wait at a time


@dataclass(frozen=True, slots=True)
class Solved:
    """One map that was solved, and what its output lacked before and after (relative, mean square)."""

    name: str
    before: float
    after: float
    rows: int


@dataclass(slots=True)
class Update:
    """What realignment changed: differences of parameters, so that a part of them can be taken."""

    changes: dict[str, Tensor] = field(default_factory=dict)  # by key of the state dict
    solved: list[Solved] = field(default_factory=list)
    left: list[LeftMap] = field(default_factory=list)


@dataclass(slots=True)
class _Seen:
    """What one forward of the cut network has shown of one map."""

    u: Tensor
    func: Any
    args: tuple[Any, ...]
    shape: torch.Size  # of the map's output
    value: Tensor  # what its output has become
    steps: list[Replay] = field(default_factory=list)
    is_linear: bool = True

    def scale(self) -> Tensor | None:
        """Return the square of what the steps behind the map multiply each channel by."""
        return squared_scale(self.steps, self.shape, self.value) if self.is_linear else None

    def applied(self, change: Tensor, geometry: Geometry) -> Tensor:
        """Return what a change of the weight (and bias) adds where the steps end."""
        features = change.shape[-1] - int(geometry.has_bias)
        weight = change[..., :features].reshape(-1, features).to(self.u.dtype)
        bias = change[..., features].reshape(-1).to(self.u.dtype) if geometry.has_bias else None
        if geometry.kernel is None:
            added = torch.nn.functional.linear(self.u, weight, bias)
        else:
            weight = weight.reshape(self.args[1].shape)
            added = self.func(self.u, weight, bias, *self.args[3:])
        return carried(self.steps, added)


def realign(
    model: nn.Module,
    pruned: nn.Module,
    origins: Mapping[str, str],
    batches: Sequence[Any],
    *,
    strength: float | None = None,
    only: Callable[[LinearMap], bool] = lambda _: True,
    shrink_bias: bool = False,
    budget: int = BUDGET,
    on_progress: Progress | None = None,
) -> Update:
    """Solve the maps of `pruned` behind its cuts again, in place; return what changed.

    Args:
        model: The unpruned network; its forward is run, nothing of it changes.
        pruned: The cut network; ours.
        origins: For keys of its state dict the keys of the same tensors in `model`.
        batches: Inputs, without targets; at least two examples in each.
        strength: Of the penalty; by default 1e-3 for convolutions and 0.1 for linear maps.
        only: Which maps are solved.
        shrink_bias: The penalty falls on the bias as well.
        budget: Bytes of activations that may wait; above it, forwards are begun anew for every map.
        on_progress: Called with (maps done, maps in all).
    """
    walk = _Walk(model, pruned, origins, batches[0], only)
    with modules.eval_mode(model), modules.eval_mode(pruned), _no_fast_path():
        return walk.go(batches, strength, shrink_bias, budget, on_progress)


class _no_fast_path:  # noqa: N801 - a context manager
    def __enter__(self) -> None:
        self.before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)

    def __exit__(self, *_: object) -> None:
        torch.backends.mha.set_fastpath_enabled(self.before)


class _Walk:
    def __init__(
        self,
        model: nn.Module,
        pruned: nn.Module,
        origins: Mapping[str, str],
        example: Any,
        only: Callable[[LinearMap], bool],
    ) -> None:
        self.model, self.pruned = model, pruned
        theirs = _keys(model)
        self.own = _keys(pruned)
        names = {number: origins[key] for number, key in self.own.items() if key in origins}
        teacher = Side(Facts(model, record(model, example)), theirs)
        student = Side(Facts(pruned, record(pruned, example)), names)
        aligned = Alignment(teacher, student, module_names(student.facts, origins))
        maps, self.left = find_maps(aligned, self.own)
        self.maps = [each for each in maps if only(each)]
        self.teacher, self.student = teacher, student
        self.tensors = dict(pruned.state_dict(keep_vars=True))
        self.repeated = _repeated(pruned)

    def go(
        self,
        batches: Sequence[Any],
        strength: float | None,
        shrink_bias: bool,
        budget: int,
        on_progress: Progress | None,
    ) -> Update:
        """Walk, and return what was changed."""
        update = Update(left=list(self.left))
        pairs = [_Pair(self, batch) for batch in batches]
        waits = self.live_bytes() * sum(modules.batch_size(b) for b in batches) <= budget
        try:
            for number, each in enumerate(self.maps):
                self._solve(each, pairs, update, strength, shrink_bias, waits)
                if on_progress is not None:
                    on_progress(number + 1, len(self.maps))
        finally:
            for pair in pairs:
                pair.stop()
        return update

    def live_bytes(self) -> int:
        """Return the most bytes an example's live values take in both networks, from the trace."""
        return sum(_live(side) for side in (self.teacher, self.student))

    def _solve(
        self,
        each: LinearMap,
        pairs: Sequence[_Pair],
        update: Update,
        strength: float | None,
        shrink_bias: bool,
        waits: bool,
    ) -> None:
        equations: Equations | None = None
        scale: Tensor | None = None
        goal = 0.0
        weight = self.tensors[each.name]
        bias = self._bias(each)
        for pair in pairs:
            pair.advance(each)
            seen = pair.seen[each.op]
            if equations is None:
                geometry = geometry_of(seen.func, seen.args, has_bias=bias is not None)
                scale = seen.scale() if geometry is not None else None
                if geometry is None or scale is None:
                    reason = "its output's steps are not linear channel by channel"
                    update.left.append(LeftMap(each.name, reason))
                    break
                equations = Equations(geometry, share=self._share(each, geometry, pairs))
            lacking, size = pair.lacking(each, scale)
            equations.add(seen.u, lacking, pair.keep(seen, equations.geometry))
            goal += size
            if not waits:
                pair.stop()
        else:
            assert equations is not None and scale is not None
            if strength is None:
                strength = 1e-3 if equations.geometry.kernel is not None else 0.1
            before = equations.residual / max(goal, 1e-30)
            change = None if before < 1e-10 else equations.solve(strength, shrink_bias=shrink_bias)
            if change is None:
                if before >= 1e-10:
                    update.left.append(LeftMap(each.name, "its equations have no finite solution"))
            else:
                self._apply(each, change, scale, equations, bias, update, before, goal, weight)
                if waits:
                    for pair in pairs:
                        pair.renew(each, change, equations.geometry)
        for pair in pairs:
            pair.forget(each)

    def _share(self, each: LinearMap, geometry: Geometry, pairs: Sequence[_Pair]) -> float:
        shape = self.student.trace.shapes[self.student.trace.ops[each.op].outputs[0]]
        weight = self.tensors[each.name]
        count = self.student.trace.batch
        per_example = shape[0] / count if geometry.kernel is None else math.prod(shape[2:])
        examples = sum(pair.size for pair in pairs)
        features = weight.numel() // weight.shape[0] if geometry.kernel else min(weight.shape)
        return share_of(round(per_example * examples), features)

    def _bias(self, each: LinearMap) -> tuple[str, int | None] | None:
        """Return the key of what takes a change of the bias, and the normalization that reads it."""
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

    def _apply(
        self,
        each: LinearMap,
        change: Tensor,
        scale: Tensor,
        equations: Equations,
        bias: tuple[str, int | None] | None,
        update: Update,
        before: float,
        goal: float,
        weight: Tensor,
    ) -> None:
        geometry = equations.geometry
        if bool((scale <= TINY * scale.max()).any()):  # dead channels stay
            change[(scale <= TINY * scale.max()).reshape(change.shape[:2])] = 0.0
        features = change.shape[-1] - int(geometry.has_bias)
        matrix = change[..., :features].reshape(-1, features)
        is_direct = each.weight in self.student.trace.ops[each.op].params
        is_transposed = geometry.kernel is None and is_direct
        changes = {each.name: _as_weight(matrix, weight, is_transposed)}
        if bias is not None:
            key, step = bias
            shift = change[..., features].reshape(-1)
            if step is not None:
                shift = shift * self._norm_scale(step).double()
            changes[key] = shift
        with torch.no_grad():
            for key, difference in changes.items():
                tensor = self.tensors[key]
                moved = difference.to(tensor.dtype)
                tensor.data += moved
                known = update.changes.get(key)
                update.changes[key] = moved if known is None else known + moved
        assert equations.gram is not None and equations.right is not None
        explained = 2 * (change * equations.right.mT).sum() - (
            (change @ equations.gram) * change
        ).sum()
        after = max(0.0, equations.residual - float(explained)) / max(goal, 1e-30)
        update.solved.append(Solved(each.name, before, after, equations.rows))

    def _norm_scale(self, index: int) -> Tensor:
        """Return the factor of each channel in a normalization by fixed statistics."""
        params = self.student.trace.ops[index].params
        keys = [self.own[p] for p in params if p in self.own]
        found = {key.rpartition(".")[2]: self.tensors[key] for key in keys}
        module = self.pruned.get_submodule(keys[0].rpartition(".")[0])
        factor = (found["running_var"].detach() + float(module.eps)).rsqrt()
        return factor * found["weight"].detach() if "weight" in found else factor


class _Pair:
    """One batch in both networks."""

    def __init__(self, walk: _Walk, batch: Any) -> None:
        self.walk, self.batch = walk, batch
        self.size = modules.batch_size(batch)
        self.seen: dict[int, _Seen] = {}
        self.targets: dict[int, Tensor] = {}
        self.teacher: Halting | None = None
        self.student: Halting | None = None
        teacher, student = walk.teacher.trace, walk.student.trace
        goals = {m.target for m in walk.maps}
        self.goals = {teacher.maker[g]: g for g in goals if teacher.maker[g] is not None}
        self.by_op: dict[int, list[tuple[LinearMap, int]]] = {}  # step 0 is the map itself
        for each in walk.maps:
            for number, op in enumerate([each.op, *(step.op for step in each.steps)]):
                self.by_op.setdefault(op, []).append((each, number))
        self.theirs = {i: teacher.ops[i].name for i in self.goals if i is not None}
        self.mine = {i: student.ops[i].name for i in self.by_op}

    def advance(self, each: LinearMap) -> None:
        """Bring both networks to where a map ends."""
        device = modules.device_of(self.walk.pruned)
        if self.teacher is None or self.student is None:
            inputs = modules.to_device(self.batch, device)
            self.teacher = Halting(self.walk.model, inputs, self.theirs, self._of_teacher)
            self.student = Halting(self.walk.pruned, inputs, self.mine, self._of_student)
        maker = self.walk.teacher.trace.maker[each.target]
        assert maker is not None
        self.teacher.advance(maker)
        self.student.advance(each.end)

    def _of_teacher(self, number: int, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        goal = self.goals[number]
        outputs = self.walk.teacher.trace.ops[number].outputs
        made = result[outputs.index(goal)] if isinstance(result, tuple | list) else result
        self.targets[goal] = made.detach().clone()  # later code may change it in place

    def _of_student(self, number: int, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        made = result[0] if isinstance(result, tuple | list) else result
        for each, step in self.by_op[number]:
            if step == 0:
                place = 1 if base(func) == "addmm" else 0
                kept = tuple(None if i == place else value for i, value in enumerate(args))
                u = args[place].detach().clone()  # later code may change it in place
                self.seen[each.op] = _Seen(u, func, kept, made.shape, made)
                continue
            seen = self.seen[each.op]
            replay = linear_part(each.steps[step - 1].kind, func, args, kwargs, seen.value)
            seen.is_linear = seen.is_linear and replay is not None
            seen.steps += [] if replay is None else [replay]
            seen.value = made

    def lacking(self, each: LinearMap, scale: Tensor) -> tuple[Tensor, float]:
        """Return what a map's output lacks, in its own place, and the target's sum of squares."""
        seen = self.seen[each.op]
        own, target = seen.value.float(), self.targets[each.target].float()
        difference = closed(target, own, each.closure, self.walk.layer_norm(each)) - own
        back = adjoint(seen.steps, seen.shape, difference)
        wide = scale.reshape(-1, *([1] * (back.ndim - 2))) if back.ndim > 2 else scale
        safe = wide.clamp(min=float(scale.max()) * TINY)
        return back / safe.to(back.dtype), float(target.double().pow(2).sum())

    def keep(self, seen: _Seen, geometry: Geometry) -> Tensor | None:
        """Return which rows are no padding, where the inputs say so."""
        mask = self.batch.get("attention_mask") if isinstance(self.batch, Mapping) else None
        if not isinstance(mask, Tensor) or geometry.kernel is not None or mask.ndim != 2:
            return None
        rows = seen.u.numel() // seen.u.shape[-1]
        return mask.flatten().bool().to(seen.u.device) if rows == mask.numel() else None

    def renew(self, each: LinearMap, change: Tensor, geometry: Geometry) -> None:
        """Let the waiting forward go on with what the solved map gives."""
        seen = self.seen[each.op]
        seen.value.add_(seen.applied(change, geometry).to(seen.value.dtype))

    def forget(self, each: LinearMap) -> None:
        """Free what was kept for a map."""
        self.seen.pop(each.op, None)
        later = self.walk.maps[self.walk.maps.index(each) + 1 :]
        if not any(other.target == each.target for other in later):
            self.targets.pop(each.target, None)

    def stop(self) -> None:
        """End both forwards."""
        for forward in (self.teacher, self.student):
            if forward is not None:
                forward.stop()
        self.teacher = self.student = None


def _keys(model: nn.Module) -> dict[int, str]:
    """Return the keys of a network's parameters and buffers, by id."""
    found: dict[int, str] = {}
    for key, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            found.setdefault(id(tensor), key)
    return found


def _repeated(model: nn.Module) -> frozenset[int]:
    """Return the ids of parameters that are registered several times."""
    times = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    return frozenset(number for number, count in times.items() if count > 1)


def _as_weight(matrix: Tensor, weight: Tensor, is_transposed: bool) -> Tensor:
    return matrix.T if is_transposed else matrix.reshape(weight.shape)


def _live(side: Side) -> int:
    """Return the most bytes per example that live at a time in a recorded forward."""
    trace = side.trace
    changes = [0] * (len(trace.ops) + 2)
    for value, maker in enumerate(trace.maker):
        if maker is None or value in side.facts.weights:
            continue
        size = math.prod(trace.shapes[value]) * trace.dtypes[value].itemsize
        changes[maker] += size
        changes[max([maker, *side.facts.readers(value)]) + 1] -= size
    return max(itertools.accumulate(changes)) // trace.batch
