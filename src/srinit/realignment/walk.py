"""Realignment: every linear map behind a cut solved again towards the unpruned network's stream.

Two networks are walked through in lockstep. Where a map of the cut one ends, what its output
lacks of the unpruned network's value there is regressed on its inputs, its weight is changed, and
the walk goes on with what it gives now. Nothing is added to the network, nothing is trained and
no label is read.

Several processes walk in step, each with its share of the batches; what is summed over all of them
is the same to the bit whatever their number, and rank 0 solves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.cost import visible_attention
from srinit.distributed import ProcessGroup
from srinit.realignment.equations import (
    LEAST_ROWS,
    Equations,
    Geometry,
    geometry_of,
    share_of,
)
from srinit.realignment.fold import folded, geometry_behind
from srinit.realignment.head import MapHead
from srinit.realignment.maps import RELUS, LinearMap
from srinit.realignment.networks import Networks
from srinit.realignment.pair import MapSums, Pair, is_padded
from srinit.realignment.records import LeftMap, SolvedMap
from srinit.realignment.teacher import Teacher

Progress = Callable[[int, int], None]
CONVOLUTION, LINEAR = 1e-3, 0.1  # strengths of the penalty with many examples
EXAMPLES = 2.0  # strength of a convolution times the number of examples, where those are few
MEAN_STEPS = 3  # of Newton, towards equal means behind an activation
LEAST_ACTIVE = 0.05  # slope of an activation, on average, that a step counts on
BUDGET = 2 << 30  # bytes of live activations that may wait at a time


@dataclass(slots=True)
class Update:
    """What realignment changed: differences of parameters, so that a part of them can be taken."""

    changes: dict[str, Tensor] = field(default_factory=dict)  # by key of the state dict
    solved: list[SolvedMap] = field(default_factory=list)
    left: list[LeftMap] = field(default_factory=list)
    before_relu: int = 0  # maps that were solved and may be solved twice


def realign(
    model: nn.Module,
    pruned: nn.Module,
    origins: Mapping[str, str],
    batches: Sequence[Any],
    *,
    strength: float | None = None,
    factor: float = 1.0,
    only: Callable[[LinearMap], bool] = lambda _: True,
    shrink_bias: bool = False,
    least_rows: int = LEAST_ROWS,
    twice: bool = False,
    fold: bool = False,
    worth: float = 0.0,
    budget: int = BUDGET,
    ranks: ProcessGroup | None = None,
    teacher: Teacher | None = None,
    on_progress: Progress | None = None,
) -> Update:
    """Solve the maps of `pruned` behind its cuts again, in place; return what changed.

    Args:
        model: The unpruned network; its forward is run, nothing of it changes.
        pruned: The cut network; ours.
        origins: For keys of its state dict the keys of the same tensors in `model`.
        batches: Inputs, without targets; at least two examples in each.
        strength: Of the penalty; by default 2 / examples, and 1e-3 at least, for convolutions and
            0.1 for linear maps. Infinite: only biases change.
        factor: The default strength times this is taken.
        only: Which maps are solved.
        shrink_bias: The penalty falls on the bias as well.
        least_rows: Positions of all examples that are read for a map at least, where there are
            so many.
        twice: Maps before a ReLU are solved a second time: where it is flat their target is their
            own value as far as that is flat too, and the first solution has moved that.
        fold: Maps before a run of removed units alone change, and only by a linear map of what they
            put out: fewer unknowns. A weight that is used several times stays; then the
            normalization behind it changes.
        worth: Squared distance to the target, of the target's square in the first batch, below
            which a map is left as it is.
        budget: Bytes of activations that may wait, of all batches; above it, forwards are begun
            anew for every map.
        ranks: Processes that share the batches; all must call this, with all of them.
        teacher: `model` on these batches, where several walks share what it gives.
        on_progress: Called with (maps done, maps in all).

    Raises:
        CompensationError: The forward's steps depend on its inputs.
    """
    chosen = (lambda each: each.bridges) if fold else only
    unpruned = teacher or Teacher(model, list(batches))
    networks = Networks(unpruned, pruned, origins, chosen, folds=fold)
    settings = _Settings(
        strength,
        factor,
        shrink_bias,
        least_rows,
        twice,
        worth,
        on_progress,
        ranks or ProcessGroup(alone=True),
    )
    examples = sum(map(modules.batch_size, batches))
    with modules.eval_mode(model), modules.eval_mode(pruned), visible_attention(), torch.no_grad():
        if networks.live_bytes() * examples <= budget:
            walk = _Walk(networks, batches, settings, waits=True)
            if walk.go():
                return walk.update
        walk = _Walk(networks, batches, settings, waits=False)
        walk.go()
        return walk.update


@dataclass(frozen=True, slots=True)
class _Settings:
    strength: float | None
    factor: float
    shrink_bias: bool
    least_rows: int
    twice: bool
    worth: float
    on_progress: Progress | None
    ranks: ProcessGroup

    def strength_of(self, geometry: Geometry, examples: int) -> float:
        """Return the strength of the penalty on a map's change.

        What it must hold down is the noise of few examples: it grows slower than what G holds, so
        that relative to G the right strength falls as 1 / examples.
        """
        if self.strength is not None:
            return self.strength
        if geometry.kernel is None:
            return self.factor * LINEAR
        return self.factor * max(CONVOLUTION, EXAMPLES / examples)


class _Walk:
    """One way through both networks, map by map.

    Args:
        networks: Both, recorded.
        batches: Inputs, those of all processes.
        settings: How maps are solved.
        waits: Forwards of all batches wait where a map ends; else each is begun anew for each map.
    """

    def __init__(
        self, networks: Networks, batches: Sequence[Any], settings: _Settings, *, waits: bool
    ) -> None:
        self.networks, self.settings, self.waits = networks, settings, waits
        self.ranks, self.batches = settings.ranks, batches
        self.examples = sum(map(modules.batch_size, batches))
        self.numbered = {i: Pair(networks, batch, i) for i, batch in self.ranks.mine(batches)}
        self.pairs = list(self.numbered.values())  # ours
        self.update = Update(left=list(networks.left))

    def go(self) -> bool:
        """Solve all maps; False, with nothing changed, where waiting gave something else.

        Forwards that wait for each other may meet in what a network keeps in itself for a while;
        then what they give differs from a plain forward.
        """
        maps = self.networks.maps
        try:
            for number, each in enumerate(maps, start=1):
                self._solve(each)
                if self.settings.on_progress is not None:
                    self.settings.on_progress(number, len(maps))
            is_plain = self._is_plain()
        finally:
            for pair in self.pairs:
                pair.stop()
        if not is_plain:
            for key, change in self.update.changes.items():
                self.networks.tensors[key].data -= change
        return is_plain

    def _is_plain(self) -> bool:
        """Tell whether forwards that waited end as plain ones; walks that share ask once."""
        teacher = self.networks.unpruned
        if not teacher.is_plain:
            ends = {0, len(self.batches) - 1} & self.numbered.keys()
            mine = all(self.numbered[number].is_plain() for number in sorted(ends))
            teacher.is_plain = all(self.ranks.gather(mine))
        return teacher.is_plain

    def _solve(self, each: LinearMap) -> None:
        found = self._read(each)
        if isinstance(found, str):
            self.update.left.append(LeftMap(name=each.name, reason=found))
        elif found.is_lacking:
            change = self._solution(found.equations, found.strength)
            if change is None:
                reason = "its equations have no finite solution"
                self.update.left.append(LeftMap(name=each.name, reason=reason))
            else:
                self._take(each, found, change)
                self.update.solved.append(found.solved(each, change))
                self.update.before_relu += each.closure in RELUS
                if self.settings.twice and each.closure in RELUS:
                    self._solve_again(each, found, change)
                self._match_means(each)
        for pair in self.pairs:
            pair.forget(each)

    def _take(self, each: LinearMap, found: MapSums, change: Tensor) -> None:
        """Change a map, and let waiting forwards go on with what it gives now."""
        found.without_dead(change)
        geometry = found.equations.geometry
        self._apply(each, change, geometry)
        for pair in self.pairs if self.waits else ():
            pair.renew(each, change, geometry)

    def _solve_again(self, each: LinearMap, found: MapSums, change: Tensor) -> None:
        """Solve a map once more: a convex bound of the distance behind its ReLU gets smaller."""
        later = MapSums(found.equations.again(), found.scale)
        self._add_up(each, later)
        renewed = found.equations.renewed(later.equations, change, found.strength)
        more = self._solution(renewed, found.strength)
        if more is not None:
            self._take(each, found, more)

    def _solution(self, equations: Equations, strength: float) -> Tensor | None:
        """Return what rank 0 solves; None where the equations have no finite solution."""
        assert equations.right is not None
        change = None
        if self.ranks.rank == 0:
            change = equations.solve(strength, shrink_bias=self.settings.shrink_bias)
        if change is None:
            change = torch.full_like(equations.right.mT, math.nan)
        change = change.contiguous()
        self.ranks.broadcast_(change)
        return change if bool(torch.isfinite(change).all()) else None

    def _halted(self, each: LinearMap) -> Iterator[tuple[int, Pair]]:
        """Yield every batch of ours with its number, both forwards where the map ends."""
        for number, pair in self.numbered.items():
            pair.advance(each)
            yield number, pair
            if not self.waits:
                pair.stop()

    def _read(self, each: LinearMap) -> MapSums | str:
        """Return the sums over all batches, or why there are none."""
        said = self.ranks.broadcast(self.ranks.together(lambda: self._begin(each)))
        if isinstance(said, str):
            return said
        head = MapHead.of(said, self.networks.tensors[each.name].device)
        strength = self.settings.strength_of(head.geometry, self.examples)
        found = head.sums(bias_only=math.isinf(strength))
        found.strength = strength
        self._add_up(each, found)
        return found

    def _add_up(self, each: LinearMap, found: MapSums) -> None:
        """Add what all batches of all processes give."""
        lines = self.ranks.together(
            lambda: {n: pair.add_to(found, each, n) for n, pair in self._halted(each)}
        )
        every = self.ranks.gather(list(lines.items()))
        found.take(line for _, line in sorted(item for part in every for item in part))
        found.equations.total(self.ranks, self.networks.tensors[each.name].detach())

    def _begin(self, each: LinearMap) -> dict[str, Any] | str | None:
        """Bring our first batch to where a map ends; return the head of the very first of all."""
        if not self.pairs:
            return None
        first = self.pairs[0]
        first.advance(each)
        if self.ranks.rank:
            return None
        worth = self.settings.worth
        if worth and first.lacks(each) < worth:
            return f"its output is near its target already (squared, within {worth:g} of it)"
        seen = first.seen[each.op]
        geometry = geometry_of(seen.func, seen.args, has_bias=self.networks.bias(each) is not None)
        scale = seen.scale() if geometry is not None else None
        if geometry is None or scale is None:
            return "what follows its output is not linear channel by channel"
        if seen.weight_size(geometry) != self.networks.tensors[each.name].numel():
            return "it reads a part of its weight"
        if self.networks.folds:
            channels = seen.shape[1 if geometry.kernel else -1]
            geometry = geometry_behind(each, geometry, channels)
            if geometry is None:
                return "its weight is used several times, and no convolution's"
        share = self._share(each, geometry)
        grid = first.grid(each, geometry, scale, share)
        return MapHead(geometry, scale, share, grid).plain()

    def _share(self, each: LinearMap, geometry: Geometry) -> float:
        """Return which share of the positions is read."""
        trace = self.networks.student.trace
        shape = trace.shapes[trace.ops[each.op].outputs[0]]
        weight = self.networks.tensors[each.name]
        per_example = shape[0] / trace.batch if geometry.kernel is None else math.prod(shape[2:])
        features = weight.numel() // weight.shape[0] if geometry.kernel else min(weight.shape)
        return share_of(round(per_example * self.examples), features, self.settings.least_rows)

    def _apply(self, each: LinearMap, change: Tensor, geometry: Geometry) -> None:
        """Change the weight, and the bias or that of the normalization behind it."""
        if self.networks.folds:
            self._change(folded(self.networks, each, change, geometry))
            return
        features = change.shape[-1] - int(geometry.has_bias)
        matrix = change[..., :features].reshape(-1, features)
        is_transposed = geometry.kernel is None and self.networks.reads_weight_directly(each)
        weight = self.networks.tensors[each.name]
        changes = {each.name: matrix.T if is_transposed else matrix.reshape(weight.shape)}
        bias = self.networks.bias(each)
        if bias is not None:
            key, norm = bias
            shift = change[..., features].reshape(-1)
            scale = 1.0 if norm is None else self.networks.norm_scale(norm).double()
            changes[key] = shift * scale
        self._change(changes)

    def _match_means(self, each: LinearMap) -> None:
        """Shift the bias until the mean behind the activation is the unpruned network's.

        Least squares shrink the spread of what they cannot explain, and a smaller spread before an
        activation is another mean behind it, in every position of a channel alike. Not where some
        places are padding.
        """
        function, bias = self.networks.activation(each), self.networks.bias(each)
        is_plain = all(step.kind in ("norm", "shift") for step in each.steps)
        has_padding = any(map(is_padded, self.batches))
        if function is None or bias is None or not is_plain or has_padding:
            return
        for _ in range(MEAN_STEPS):
            sums = self.ranks.together(
                lambda: {n: pair.mean_lack(each, function) for n, pair in self._halted(each)}
            )
            shape = self.networks.student.trace.shapes[each.value]
            size = 2 * shape[1 if len(shape) > 2 else -1] + 1
            found = torch.stack(self.ranks.in_order(sums, size, len(self.batches))).sum(0)
            lack, active = found[:-1].to(self.networks.tensors[each.name].device).chunk(2)
            step = lack / active.clamp(min=LEAST_ACTIVE * float(found[-1]))
            for pair in self.pairs if self.waits else ():
                pair.shift(each, step)
            self._change({bias[0]: step})

    def _change(self, changes: Mapping[str, Tensor]) -> None:
        """Add to parameters, and note it."""
        for key, difference in changes.items():
            tensor = self.networks.tensors[key]
            moved = difference.to(tensor.dtype)
            tensor.data += moved
            known = self.update.changes.get(key)
            self.update.changes[key] = moved if known is None else known + moved
