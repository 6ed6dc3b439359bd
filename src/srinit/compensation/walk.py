"""Realignment: every linear map behind a cut solved again towards the unpruned network's stream.

Two networks are walked through in lockstep. Where a map of the cut one ends, what its output
lacks of the unpruned network's value there is regressed on its inputs, its weight is changed, and
the walk goes on with what it gives now. Nothing is added to the network, nothing is trained and
no label is read.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srinit import modules
from srinit.compensation.alignment import Alignment, Side, module_names
from srinit.compensation.equations import Equations, Geometry, explained, geometry_of, share_of
from srinit.compensation.lockstep import Halting
from srinit.compensation.maps import LinearMap, closed, find_maps
from srinit.compensation.records import LeftMap, SolvedMap
from srinit.compensation.replay import Replay, adjoint, base, carried, linear_part, squared_scale
from srinit.errors import CompensationError
from srinit.units.facts import Facts
from srinit.units.rule import short
from srinit.units.trace import record

Progress = Callable[[int, int], None]
CONVOLUTION, LINEAR = 1e-3, 0.1  # default strengths of the penalty
NOTHING = 1e-10  # relative squared distance that needs no solving
MEAN_STEPS = 3  # of Newton, towards equal means behind an activation
LEAST_ACTIVE = 0.05  # slope of an activation, on average, that a step counts on
TINY = 1e-8  # squared scale of a channel, relative to the largest, below which it is dead
BIASES = ("bias", "in_proj_bias")
BUDGET = 2 << 30  # bytes of live activations that may wait at a time

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardtanh": F.relu6,
    "silu": F.silu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
}


@dataclass(slots=True)
class Update:
    """What realignment changed: differences of parameters, so that a part of them can be taken."""

    changes: dict[str, Tensor] = field(default_factory=dict)  # by key of the state dict
    solved: list[SolvedMap] = field(default_factory=list)
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

    def weight_size(self, geometry: Geometry) -> int:
        """Return how many entries the weight has that the map multiplies by."""
        return (
            self.shape[-1] * self.u.shape[-1] if geometry.kernel is None else self.args[1].numel()
        )

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
            Infinite: only biases change.
        only: Which maps are solved.
        shrink_bias: The penalty falls on the bias as well.
        budget: Bytes of activations that may wait; above it, forwards are begun anew for every map.
        on_progress: Called with (maps done, maps in all).

    Raises:
        CompensationError: The forward's steps depend on its inputs.
    """
    walk = _Walk(model, pruned, origins, batches[0], only)
    settings = _Settings(strength, shrink_bias, on_progress)
    examples = sum(map(modules.batch_size, batches))
    with modules.eval_mode(model), modules.eval_mode(pruned), _no_fast_path(), torch.no_grad():
        if walk.live_bytes() * examples <= budget:
            update = walk.go(batches, settings, waits=True)
            if update is not None:
                return update
        update = walk.go(batches, settings, waits=False)
        assert update is not None
        return update


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """Switch fused kernels off, which hide additions, as the recording does."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@dataclass(frozen=True, slots=True)
class _Settings:
    strength: float | None
    shrink_bias: bool
    on_progress: Progress | None

    def strength_of(self, geometry: Geometry) -> float:
        if self.strength is not None:
            return self.strength
        return CONVOLUTION if geometry.kernel is not None else LINEAR


class _Walk:
    """Both networks' recorded forwards, and the maps to solve in the order of computation."""

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
        self.teacher = Side(Facts(model, record(model, example)), theirs)
        self.student = Side(Facts(pruned, record(pruned, example)), names)
        aligned = Alignment(self.teacher, self.student, module_names(self.student.facts, origins))
        maps, self.left = find_maps(aligned, self.own)
        self.maps = [each for each in maps if only(each)]
        self.tensors = dict(pruned.state_dict(keep_vars=True))
        self.repeated = _repeated(pruned)

    def go(self, batches: Sequence[Any], settings: _Settings, *, waits: bool) -> Update | None:
        """Walk, and return what was changed; None, with nothing changed, where waiting is wrong.

        Forwards that wait for each other may meet in what a network keeps in itself for a while;
        then what they give differs from a plain forward.
        """
        update = Update(left=list(self.left))
        pairs = [_Pair(self, batch) for batch in batches]
        try:
            for number, each in enumerate(self.maps):
                self._solve(each, pairs, update, settings, waits)
                if settings.on_progress is not None:
                    settings.on_progress(number + 1, len(self.maps))
            if waits and not all(pair.is_plain() for pair in (pairs[0], pairs[-1])):
                self._undo(update)
                return None
        finally:
            for pair in pairs:
                pair.stop()
        return update

    def _undo(self, update: Update) -> None:
        for key, change in update.changes.items():
            self.tensors[key].data -= change

    def live_bytes(self) -> int:
        """Return the most bytes an example's live values take in both networks, from the trace."""
        return sum(_live(side) for side in (self.teacher, self.student))

    def _solve(
        self,
        each: LinearMap,
        pairs: Sequence[_Pair],
        update: Update,
        settings: _Settings,
        waits: bool,
    ) -> None:
        found = self._read(each, pairs, waits)
        if isinstance(found, str):
            update.left.append(LeftMap(name=each.name, reason=found))
        elif found.is_lacking:
            strength = settings.strength_of(found.equations.geometry)
            change = found.equations.solve(strength, shrink_bias=settings.shrink_bias)
            if change is None:
                reason = "its equations have no finite solution"
                update.left.append(LeftMap(name=each.name, reason=reason))
            else:
                found.without_dead(change)
                self._apply(each, change, found.equations.geometry, update)
                update.solved.append(found.solved(each, change))
                for pair in pairs if waits else ():
                    pair.renew(each, change, found.equations.geometry)
                self._match_means(each, pairs, update, waits)
        for pair in pairs:
            pair.forget(each)

    def _read(self, each: LinearMap, pairs: Sequence[_Pair], waits: bool) -> _Read | str:
        """Return the sums over all batches, or why there are none."""
        found: _Read | None = None
        for pair in pairs:
            pair.advance(each)
            seen = pair.seen[each.op]
            if found is None:
                geometry = geometry_of(seen.func, seen.args, has_bias=self._bias(each) is not None)
                scale = seen.scale() if geometry is not None else None
                if geometry is None or scale is None:
                    return "what follows its output is not linear channel by channel"
                if seen.weight_size(geometry) != self.tensors[each.name].numel():
                    return "it reads a part of its weight"
                share = self._share(each, geometry, pairs)
                found = _Read(Equations(geometry, share=share), scale)
            pair.add_to(found, each)
            if not waits:
                pair.stop()
        assert found is not None
        return found

    def _share(self, each: LinearMap, geometry: Geometry, pairs: Sequence[_Pair]) -> float:
        shape = self.student.trace.shapes[self.student.trace.ops[each.op].outputs[0]]
        weight = self.tensors[each.name]
        count = self.student.trace.batch
        per_example = shape[0] / count if geometry.kernel is None else math.prod(shape[2:])
        examples = sum(pair.size for pair in pairs)
        features = weight.numel() // weight.shape[0] if geometry.kernel else min(weight.shape)
        return share_of(round(per_example * examples), features)

    def _bias(self, each: LinearMap) -> tuple[str, int | None] | None:
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

    def _apply(self, each: LinearMap, change: Tensor, geometry: Geometry, update: Update) -> None:
        """Change the weight, and the bias or that of the normalization behind it."""
        features = change.shape[-1] - int(geometry.has_bias)
        matrix = change[..., :features].reshape(-1, features)
        is_direct = each.weight in self.student.trace.ops[each.op].params
        is_transposed = geometry.kernel is None and is_direct
        weight = self.tensors[each.name]
        changes = {each.name: matrix.T if is_transposed else matrix.reshape(weight.shape)}
        bias = self._bias(each)
        if bias is not None:
            key, step = bias
            shift = change[..., features].reshape(-1)
            changes[key] = shift if step is None else shift * self._norm_scale(step).double()
        self._change(changes, update)

    def _match_means(
        self, each: LinearMap, pairs: Sequence[_Pair], update: Update, waits: bool
    ) -> None:
        """Shift the bias until the mean behind the activation is the unpruned network's.

        Least squares shrink the spread of what they cannot explain, and a smaller spread before an
        activation is another mean behind it, in every position of a channel alike.
        """
        function = self.activation(each)
        bias = self._bias(each)
        is_plain = all(step.kind in ("norm", "shift") for step in each.steps)
        if function is None or bias is None or not is_plain:
            return
        for _ in range(MEAN_STEPS):
            sums = []
            for pair in pairs:
                if not waits:
                    pair.advance(each)
                sums.append(pair.mean_lack(each, function))
                if not waits:
                    pair.stop()
            lack = torch.stack([one for one, _, _ in sums]).sum(0)
            active = torch.stack([one for _, one, _ in sums]).sum(0)
            step = lack / active.clamp(min=LEAST_ACTIVE * sum(count for _, _, count in sums))
            for pair in pairs if waits else ():
                pair.shift(each, step)
            self._change({bias[0]: step}, update)

    def _change(self, changes: Mapping[str, Tensor], update: Update) -> None:
        """Add to parameters, and note it."""
        for key, difference in changes.items():
            tensor = self.tensors[key]
            moved = difference.to(tensor.dtype)
            tensor.data += moved
            known = update.changes.get(key)
            update.changes[key] = moved if known is None else known + moved

    def activation(self, each: LinearMap) -> Callable[[Tensor], Tensor] | None:
        """Return the activation that alone reads where a map ends; None where there is none."""
        readers = self.student.facts.readers(each.value)
        if len(readers) != 1:
            return None
        op = self.student.trace.ops[readers[0]]
        return ACTIVATIONS.get(short(op))

    def _norm_scale(self, index: int) -> Tensor:
        """Return the factor of each channel in a normalization by fixed statistics."""
        params = self.student.trace.ops[index].params
        keys = [self.own[p] for p in params if p in self.own]
        found = {key.rpartition(".")[2]: self.tensors[key] for key in keys}
        module: Any = self.pruned.get_submodule(keys[0].rpartition(".")[0])
        factor: Tensor = (found["running_var"].detach() + float(module.eps)).rsqrt()
        return factor * found["weight"].detach() if "weight" in found else factor


@dataclass(slots=True)
class _Read:
    """The sums of one map over all batches."""

    equations: Equations
    scale: Tensor  # square of what each channel is multiplied by behind the map
    lacking: float = 0.0  # squared distance to the target
    goal: float = 0.0  # square of the target

    @property
    def is_lacking(self) -> bool:
        return self.lacking > NOTHING * self.goal

    def without_dead(self, change: Tensor) -> None:
        """Leave channels as they are that nothing behind the map reads, in place."""
        is_dead = self.scale <= TINY * self.scale.max()
        change[is_dead.reshape(change.shape[:2])] = 0.0

    def solved(self, each: LinearMap, change: Tensor) -> SolvedMap:
        goal = max(self.goal, 1e-30)
        left = self.lacking * self.equations.share - explained(self.equations, change, self.scale)
        return SolvedMap(
            name=each.name,
            lacking_before=self.lacking / goal,
            lacking_after=max(0.0, left) / (goal * self.equations.share),
            rows=self.equations.rows,
        )


class _Pair:
    """One batch in both networks."""

    def __init__(self, walk: _Walk, batch: Any) -> None:
        self.walk, self.batch = walk, batch
        self.size = modules.batch_size(batch)
        self.seen: dict[int, _Seen] = {}
        self.targets: dict[int, Tensor] = {}
        self.teacher: Halting | None = None
        self.student: Halting | None = None
        teacher = walk.teacher.trace
        goals = {m.target for m in walk.maps}
        self.goals = {maker: g for g in goals if (maker := teacher.maker[g]) is not None}
        self.by_op: dict[int, list[tuple[LinearMap, int]]] = {}  # step 0 is the map itself
        for each in walk.maps:
            for number, op in enumerate([each.op, *(step.op for step in each.steps)]):
                self.by_op.setdefault(op, []).append((each, number))

    def advance(self, each: LinearMap) -> None:
        """Bring both networks to where a map ends."""
        device = modules.device_of(self.walk.pruned)
        if self.teacher is None or self.student is None:
            inputs = modules.to_device(self.batch, device)
            self.teacher = Halting(
                self.walk.model, inputs, self.walk.teacher.trace, self.goals, self._of_teacher
            )
            self.student = Halting(
                self.walk.pruned, inputs, self.walk.student.trace, self.by_op, self._of_student
            )
        maker = self.walk.teacher.trace.maker[each.target]
        assert maker is not None
        self.teacher.advance(maker)
        self.student.advance(each.end)
        if each.target not in self.targets or each.op not in self.seen:
            raise CompensationError(
                f"the forward ended before {each.name!r} on these inputs; a forward whose steps "
                "depend on its inputs cannot be compensated."
            )

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

    def add_to(self, found: _Read, each: LinearMap) -> None:
        """Add what a map's output lacks, carried back to where it leaves the map."""
        seen = self.seen[each.op]
        own, target = seen.value.float(), self.targets[each.target].float()
        difference = closed(target, own, each.closure, self.walk.layer_norm(each)) - own
        back = adjoint(seen.steps, seen.shape, difference)
        scale = found.scale.clamp(min=float(found.scale.max()) * TINY).to(back.dtype)
        wide = scale.reshape(-1, *([1] * (back.ndim - 2))) if back.ndim > 2 else scale
        keep = self.keep(seen, found.equations.geometry)
        found.equations.add(seen.u, back / wide, keep)
        found.lacking += float(difference.double().pow(2).sum())
        found.goal += float(target.double().pow(2).sum())

    def mean_lack(
        self, each: LinearMap, function: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, int]:
        """Return by channel what is lacking behind an activation, where it is active, and how many.

        Both are sums over examples and positions.
        """
        own, target = self.seen[each.op].value.float(), self.targets[each.target].float()
        wanted = target if each.closure in ("relu", "relu6") else function(target)
        others = [d for d in range(own.ndim) if d != (1 if own.ndim > 2 else own.ndim - 1)]
        small = 1e-3
        slope = (function(own + small) - function(own)) / small
        lack = (wanted - function(own)).double().sum(others)
        return lack, slope.double().sum(others), own.numel() // len(lack)

    def shift(self, each: LinearMap, step: Tensor) -> None:
        """Shift where a map ends, by channel."""
        value = self.seen[each.op].value
        axis = 1 if value.ndim > 2 else value.ndim - 1
        value.add_(
            step.to(value.dtype).reshape([-1 if d == axis else 1 for d in range(value.ndim)])
        )

    def is_plain(self) -> bool:
        """Tell whether the forward that waited ends as a plain one does."""
        if self.student is None:
            return True
        self.student.advance(len(self.walk.student.trace.ops) + 1)
        with torch.no_grad():
            inputs = modules.to_device(self.batch, modules.device_of(self.walk.pruned))
            plain = modules.call(self.walk.pruned, inputs)
        pairs = zip(modules.tensors(plain), modules.tensors(self.student.output), strict=True)
        return all(
            bool((one - other).abs().max() <= 1e-2 * one.abs().max() + 1e-6)
            for one, other in pairs
            if one.is_floating_point() and one.numel()
        )

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
