"""One batch in both networks, halted where a map ends: what the map reads, gives and lacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from srinit import modules
from srinit.errors import CompensationError
from srinit.realignment.equations import Equations, Geometry, Grid, explained
from srinit.realignment.fold import applied
from srinit.realignment.lockstep import Halting
from srinit.realignment.maps import LinearMap, closed
from srinit.realignment.networks import Networks
from srinit.realignment.records import SolvedMap
from srinit.realignment.replay import Replay, adjoint, base, carried, linear_part, squared_scale

NOTHING = 1e-10  # relative squared distance that needs no solving
TINY = 1e-8  # squared scale of a channel, relative to the largest, below which it is dead


@dataclass(slots=True)
class Seen:
    """What one forward of the cut network has shown of one map."""

    u: Tensor
    func: Any
    args: tuple[Any, ...]
    shape: torch.Size  # of the map's output
    value: Tensor  # what its output has become
    steps: list[Replay] = field(default_factory=list)
    is_linear: bool = True
    raw: Tensor | None = None  # its output, where that is mapped further

    @property
    def read(self) -> Tensor:
        """What the solution multiplies: the map's input, or its output."""
        return self.u if self.raw is None else self.raw

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
        if self.raw is not None:
            return carried(self.steps, applied(self.raw, change, geometry))
        features = change.shape[-1] - int(geometry.has_bias)
        weight = change[..., :features].reshape(-1, features).to(self.u.dtype)
        bias = change[..., features].reshape(-1).to(self.u.dtype) if geometry.has_bias else None
        if geometry.kernel is None:
            added = F.linear(self.u, weight, bias)
        else:
            weight = weight.reshape(self.args[1].shape)
            added = self.func(self.u, weight, bias, *self.args[3:])
        return carried(self.steps, added)


@dataclass(slots=True)
class MapSums:
    """The sums of one map over all batches."""

    equations: Equations
    scale: Tensor  # square of what each channel is multiplied by behind the map
    lacking: float = 0.0  # squared distance to the target
    goal: float = 0.0  # square of the target
    strength: float = 0.0  # of the penalty

    def take(self, lines: Iterable[tuple[float, float, int]]) -> None:
        """Add up what `Pair.add_to` returned for all batches, in their order."""
        self.equations.rows = 0
        for lacking, goal, rows in lines:
            self.lacking += lacking
            self.goal += goal
            self.equations.rows += rows

    @property
    def is_lacking(self) -> bool:
        """Whether the map is off its target at all."""
        return self.lacking > NOTHING * self.goal

    def without_dead(self, change: Tensor) -> None:
        """Leave channels as they are that nothing behind the map reads, in place."""
        is_dead = self.scale <= TINY * self.scale.max()
        change[is_dead.reshape(change.shape[:2])] = 0.0

    def solved(self, each: LinearMap, change: Tensor) -> SolvedMap:
        """Return the record of a solution."""
        goal = max(self.goal, 1e-30)
        left = self.lacking * self.equations.share - explained(self.equations, change, self.scale)
        return SolvedMap(
            name=each.name,
            lacking_before=self.lacking / goal,
            lacking_after=max(0.0, left) / (goal * self.equations.share),
            rows=self.equations.rows,
            strength=None if math.isinf(self.strength) else self.strength,
        )


class Pair:
    """One batch in both networks."""

    def __init__(self, networks: Networks, batch: Any, number: int) -> None:
        self.networks, self.batch, self.number = networks, batch, number
        self.size = modules.batch_size(batch)
        self.seen: dict[int, Seen] = {}
        self.targets: dict[int, Tensor] = {}
        self.asked: tuple[Tensor, Tensor] | None = None  # what is lacking, known already
        self.teacher: Halting | None = None
        self.student: Halting | None = None
        teacher = networks.teacher.trace
        goals = {m.target for m in networks.maps}
        self.goals = {maker: g for g in goals if (maker := teacher.maker[g]) is not None}
        self.by_op: dict[int, list[tuple[LinearMap, int]]] = {}  # step 0 is the map itself
        for each in networks.maps:
            for number, op in enumerate([each.op, *(step.op for step in each.steps)]):
                self.by_op.setdefault(op, []).append((each, number))

    def advance(self, each: LinearMap) -> None:
        """Bring both networks to where a map ends."""
        both = self.networks
        inputs = modules.to_device(self.batch, modules.device_of(both.pruned))
        if self.student is None:
            ours = both.student.trace
            self.student = Halting(both.pruned, inputs, ours, self.by_op, self._of_student)
        known = both.unpruned.known(self.number, each.target)
        if known is not None:
            self.targets[each.target] = known
        else:
            self._advance_teacher(each.target, inputs)
        self.student.advance(each.end)
        if each.target not in self.targets or each.op not in self.seen:
            raise CompensationError(
                f"the forward ended before {each.name!r} on these inputs; a forward whose steps "
                "depend on its inputs cannot be compensated."
            )

    def _advance_teacher(self, target: int, inputs: Any) -> None:
        both = self.networks
        if self.teacher is None:
            theirs = both.teacher.trace
            self.teacher = Halting(both.model, inputs, theirs, self.goals, self._of_teacher)
        maker = both.teacher.trace.maker[target]
        assert maker is not None
        self.teacher.advance(maker)

    def _of_teacher(
        self, number: int, func: object, args: object, kwargs: object, result: Any
    ) -> None:
        goal = self.goals[number]
        outputs = self.networks.teacher.trace.ops[number].outputs
        made = result[outputs.index(goal)] if isinstance(result, tuple | list) else result
        self.targets[goal] = made.detach().clone()  # later code may change it in place
        self.networks.unpruned.keep(self.number, goal, self.targets[goal])

    def _of_student(self, number: int, func: object, args: Any, kwargs: Any, result: Any) -> None:
        made = result[0] if isinstance(result, tuple | list) else result
        for each, step in self.by_op[number]:
            if step == 0:
                place = 1 if base(func) == "addmm" else 0
                kept = tuple(None if i == place else value for i, value in enumerate(args))
                u = args[place].detach().clone()  # later code may change it in place
                raw = made.detach().clone() if self.networks.folds else None
                self.seen[each.op] = Seen(u, func, kept, made.shape, made, raw=raw)
                continue
            seen = self.seen[each.op]
            replay = linear_part(each.steps[step - 1].kind, func, args, kwargs, seen.value)
            seen.is_linear = seen.is_linear and replay is not None
            seen.steps += [] if replay is None else [replay]
            seen.value = made

    def add_to(self, found: MapSums, each: LinearMap, number: int) -> tuple[float, float, int]:
        """Add what a map's output lacks; return its square, the target's, and positions read.

        Args:
            found: Where to.
            each: The map.
            number: Of the batch among all.
        """
        seen = self.seen[each.op]
        difference, back = self.asked or self._lacking(each, found.scale)
        self.asked = None
        keep = self.keep(seen, found.equations.geometry)
        rows = found.equations.add(seen.read, back, keep, number=number)
        target = self.targets[each.target].float()
        sizes = [float(torch.linalg.vector_norm(x)) ** 2 for x in (difference, target)]
        return sizes[0], sizes[1], rows

    def lacks(self, each: LinearMap) -> float:
        """Return the squared distance to the target where a map ends, as a share of its square."""
        target = self.targets[each.target].float()
        return float(self._off(each).square().sum() / target.square().sum().clamp(min=1e-30))

    def grid(self, each: LinearMap, geometry: Geometry, scale: Tensor, share: float) -> Grid:
        """Return the grid of the sums, where this batch is the first; it is added next."""
        self.asked = self._lacking(each, scale)
        seen = self.seen[each.op]
        return Grid.of(geometry, seen.read, self.asked[1], share, self.keep(seen, geometry))

    def _lacking(self, each: LinearMap, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is lacking where the map ends, and carried back to where it leaves it."""
        seen, difference = self.seen[each.op], self._off(each)
        back = adjoint(seen.steps, seen.shape, difference)
        scale = scale.clamp(min=float(scale.max()) * TINY).to(back.dtype)
        wide = scale.reshape(-1, *([1] * (back.ndim - 2))) if back.ndim > 2 else scale
        return difference, back / wide

    def _off(self, each: LinearMap) -> Tensor:
        """Return what is lacking where the map ends."""
        own, target = self.seen[each.op].value.float(), self.targets[each.target].float()
        return closed(target, own, each.closure, self.networks.layer_norm(each)) - own

    def mean_lack(self, each: LinearMap, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return by channel what is lacking behind an activation, where it is active, and how many.

        Both are sums over examples and positions; one vector of them all, float64.
        """
        own, target = self.seen[each.op].value.float(), self.targets[each.target].float()
        wanted = target if each.closure in ("relu", "relu6") else function(target)
        others = [d for d in range(own.ndim) if d != (1 if own.ndim > 2 else own.ndim - 1)]
        small = 1e-3
        ours = function(own)
        slope = (function(own + small).sub_(ours)).sum(others).double() / small
        lack = (wanted - ours).sum(others).double()
        return torch.cat([lack, slope, lack.new_tensor([own.numel() // len(lack)])])

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
        self.student.advance(len(self.networks.student.trace.ops) + 1)
        with torch.no_grad():
            inputs = modules.to_device(self.batch, modules.device_of(self.networks.pruned))
            plain = modules.call(self.networks.pruned, inputs)
        pairs = zip(modules.tensors(plain), modules.tensors(self.student.output), strict=True)
        return all(
            bool((one - other).abs().max() <= 1e-2 * one.abs().max() + 1e-6)
            for one, other in pairs
            if one.is_floating_point() and one.numel()
        )

    def keep(self, seen: Seen, geometry: Geometry) -> Tensor | None:
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
        later = self.networks.maps[self.networks.maps.index(each) + 1 :]
        if not any(other.target == each.target for other in later):
            self.targets.pop(each.target, None)

    def stop(self) -> None:
        """End both forwards."""
        for forward in (self.teacher, self.student):
            if forward is not None:
                forward.stop()
        self.teacher = self.student = None


def is_padded(batch: object) -> bool:
    """Return whether some places of a batch are padding."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    return isinstance(mask, Tensor) and not bool(mask.bool().all())
