"""Chooses what is done after a cut on examples that it was not fitted on, "nothing" included."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from srinit import modules
from srinit.compensation.answers import Floats, Measure, answers, divergence
from srinit.compensation.normalization import with_new_statistics
from srinit.compensation.recalibrate import recalibrate
from srinit.compensation.records import Candidate, Choice, Compensation, Skipped
from srinit.distributed import ProcessGroup
from srinit.errors import DataError
from srinit.realignment import LEAST_ROWS, ROOM, LeftMap, Teacher, Update, realign
from srinit.records import Interval
from srinit.stats.paired import student_quantile

NOTHING = "nothing"
FACTORS = {"": 1.0, ", tenfold penalty": 10.0, ", a tenth of the penalty": 0.1}
FEW = 256  # examples that candidates are fitted on; the one that is chosen is fitted on all
FEW_ROWS = 28_000  # positions of them that are read for a map at least
STATISTICS = 512  # examples that estimate what normalizations read in the end
SHARE = 0.25  # of many examples is held out
FOLDS = 3  # of few examples each third is held out in turn
LEAST = 6  # examples
SETTLED = 0.5  # of the distance without anything, below which lesser remedies are not tried
PATCH = Skipped(
    name="patch",
    reason="it would add a layer where the units were, which neither a recipe nor a config can say",
)
MOST_HELD_OUT = 128
FOLDS_BELOW = 256  # answers; with more, one part is held out
LEAST_TO_SPLIT = 32  # examples
Progress = Callable[[int, int], None]
_Part = tuple[int, int, Any]  # round, batch, distances of its examples
_Way = Callable[[list[Any], int], Update]  # batches and positions -> what it changes
Offer = Literal["all", "fold", "none"]
"""Which maps may change: all behind a cut, the last before a run by a fold, or none."""


@dataclass(frozen=True, slots=True)
class _Round:
    """Examples to fit on, others to judge by, and what the unpruned network answers to those.

    Of what is judged by, this process keeps its share.
    """

    few: list[Any]
    numbers: list[int]  # of the batches that this process judges by
    held_out: list[Any]
    theirs: list[Tensor]


class Chooser:
    """Candidates for one cut network, fitted and judged.

    Args:
        model: The unpruned network; not changed.
        pruned: The cut one; it is copied, not changed.
        origins: For keys of its state dict those of `model`.
        batches: Inputs without targets.
        measure: How answers are compared.
        confidence: Of the gain's interval; "nothing" stays unless its lower end is positive.
        offer_recalibration: Whether new statistics of normalization are a candidate.
        offer: Which maps may change.
        ranks: Processes that share the batches; each has all of them.
    """

    def __init__(
        self,
        model: nn.Module,
        pruned: nn.Module,
        origins: Mapping[str, str],
        batches: Sequence[Any],
        *,
        measure: Measure = "probabilities",
        confidence: float = 0.95,
        offer_recalibration: bool = True,
        offer: Offer = "all",
        ranks: ProcessGroup | None = None,
    ) -> None:
        self.model, self.pruned, self.origins = model, pruned, origins
        self.measure, self.confidence = measure, confidence
        self.offer = offer
        self.batches, self.ranks = list(batches), ranks or ProcessGroup(alone=True)
        is_few = self._num_answers() < FOLDS_BELOW
        parts = folds(batches) if is_few else [split(batches)]
        self.rounds = [self._round(first(fitted, FEW), held) for fitted, held in parts]
        self.teachers: dict[int, Teacher] = {}  # by the id of a round's batches
        self.distances: dict[str, Floats] = {}
        self.candidates: list[Candidate] = []
        self.ways: dict[str, _Way] = {}  # those that were tried
        self.skipped = [PATCH]
        self.left: set[LeftMap] = set()  # by any candidate
        self.is_rectified = False  # whether maps before a ReLU were solved
        self._judge(NOTHING, [pruned] * len(self.rounds))
        self.recalibrates = offer_recalibration and any(
            isinstance(m, _BatchNorm) and m.track_running_stats for m in pruned.modules()
        )

    def _num_answers(self) -> int:
        """Return how many answers all examples have: texts and pictures have one at every place."""
        count = sum(map(modules.batch_size, self.batches))
        if count < LEAST_TO_SPLIT or self.measure != "probabilities":
            return count
        shape = answers(self.model, first(self.batches[:1], 1))[0].shape
        return count * (shape[1] if len(shape) == 3 else math.prod(shape[2:]))

    def _round(self, few: list[Any], held_out: list[Any]) -> _Round:
        mine = self.ranks.mine(held_out)
        own = [batch for _, batch in mine]
        return _Round(few, [number for number, _ in mine], own, answers(self.model, own))

    def choose(self, on_progress: Progress | None = None) -> Compensation:
        """Return the network with the candidate whose answers are nearest, and why."""
        steps: list[Callable[[], None]] = []
        if self.recalibrates:
            steps.append(self._recalibrated)
        if self.offer == "all":
            steps += [self._strengths, self._again, self._lesser]
        if self.offer == "fold":
            steps.append(self._folded)
        for number, step in enumerate(steps, start=1):
            step()
            if on_progress is not None:
                on_progress(number, len(steps) + 1)
        best = min(self.candidates, key=lambda c: c.distance)
        if best.name != NOTHING and not best.is_surely_nearer:
            best = self.candidates[0]
        found = self._finished(self.ranks.broadcast(best.name))
        if on_progress is not None:
            on_progress(len(steps) + 1, len(steps) + 1)
        return found

    def _recalibrated(self) -> None:
        found = [copy.deepcopy(self.pruned) for _ in self.rounds]
        for network, each in zip(found, self.rounds, strict=True):
            recalibrate(network, [(batch, None) for batch in each.few], ranks=self.ranks)
        self._judge("recalibrated", found)

    def _strengths(self) -> None:
        """Try realignment, and further strengths of its penalty where that may matter."""
        updates = self._try("realigned", self._realigned)
        self.is_rectified = any(update.before_relu for update in updates)
        if "realigned" not in self.ways:
            return
        if self._is_settled() and len(self.rounds) == 1:
            self._skip(*(f"realigned{name}" for name in FACTORS if name), reason="many examples")
            return
        for name in (name for name in FACTORS if name):
            self._try(f"realigned{name}", partial(self._realigned, factor=FACTORS[name]))
            if self._nearest().name == f"realigned{name}":
                break  # the other way it would be farther

    def _again(self) -> None:
        """Try the second solution, with the strength that was best."""
        if not self.is_rectified:
            self._skip("realigned twice", reason="no map before a ReLU was solved")
            return
        by_name = {each.name: each.distance for each in self.candidates}
        tried = [name for name in FACTORS if f"realigned{name}" in by_name]
        best = min(tried, key=lambda name: by_name[f"realigned{name}"])
        way = partial(self._realigned, factor=FACTORS[best], twice=True)
        self._try(f"realigned twice{best}", way)

    def _lesser(self) -> None:
        """Try what changes less, where the rest does not put most right."""
        if self._is_settled():
            self._skip("folded", "realigned joins", "bias", reason="others put most of it right")
            return
        self._folded()
        self._try("realigned joins", partial(self._realigned, joins=True))
        self._try("bias", partial(self._realigned, strength=math.inf))

    def _folded(self) -> None:
        self._try("folded", partial(self._realigned, fold=True))

    def _try(self, name: str, way: _Way) -> list[Update]:
        parts, updates = [], []
        for number, each in enumerate(self.rounds):  # one network at a time is in memory
            update = way(each.few, FEW_ROWS)
            self.left |= set(update.left)
            if update.changes:
                self.ways[name] = way
            network = changed(self.pruned, update)
            updates.append(replace(update, changes={}))
            del update
            parts += self._distances(number, network, each)
            del network
        if name not in self.ways:
            self._skip(name, reason="no map was solved")
        else:
            self._add(name, parts)
        return updates

    def _skip(self, *names: str, reason: str) -> None:
        self.skipped += [Skipped(name=name, reason=reason) for name in names]

    def _nearest(self) -> Candidate:
        return min(self.candidates, key=lambda c: c.distance)

    def _is_settled(self) -> bool:
        """Whether most of what the cut did is put right."""
        return self._nearest().distance < SETTLED * self.candidates[0].distance

    def _finished(self, name: str) -> Compensation:
        batches = self.batches
        update, model = Update(), copy.deepcopy(self.pruned)
        if name == "recalibrated":
            recalibrate(model, [(batch, None) for batch in batches], ranks=self.ranks)
        elif name != NOTHING:
            update = self.ways[name](batches, LEAST_ROWS)  # on held-out ones as well: it is chosen
            model = changed(self.pruned, update)
            with_new_statistics(model, first(batches, STATISTICS), self.ranks)
        return Compensation(model, self._choice(name, update, batches))

    def _choice(self, name: str, update: Update, batches: Sequence[Any]) -> Choice:
        return Choice(
            chosen=name,
            candidates=tuple(self.candidates),
            solved=tuple(update.solved),
            left=tuple(sorted(update.left or self.left, key=lambda each: each.name)),
            num_fitted=sum(map(modules.batch_size, batches)) if name != NOTHING else 0,
            num_held_out=len(self.distances[NOTHING]),
            confidence=self.confidence,
            measure=self.measure,
            skipped=tuple(self.skipped),
        )

    def _realigned(
        self,
        batches: list[Any],
        least_rows: int,
        *,
        joins: bool = False,
        twice: bool = False,
        fold: bool = False,
        strength: float | None = None,
        factor: float = 1.0,
    ) -> Update:
        teacher = self._teacher(batches)
        return realign(
            self.model,
            copy.deepcopy(self.pruned),
            self.origins,
            teacher.batches,
            strength=strength,
            factor=factor,
            least_rows=least_rows,
            twice=twice,
            fold=fold,
            only=(lambda each: each.joins or each.bridges) if joins else (lambda _: True),
            ranks=self.ranks,
            teacher=teacher,
        )

    def _teacher(self, batches: list[Any]) -> Teacher:
        """Return the unpruned network on some batches; candidates of a round share one."""
        several = [batch for batch in batches if modules.batch_size(batch) > 1] or batches
        if batches is self.batches:  # in the end, once
            self.teachers.clear()
            return Teacher(self.model, several)
        if id(batches) not in self.teachers:
            room = ROOM // len(self.rounds)
            self.teachers[id(batches)] = Teacher(self.model, several, room=room)
        return self.teachers[id(batches)]

    def _judge(self, name: str, networks: Sequence[nn.Module]) -> None:
        """Add a candidate: of every round the network that was fitted without its examples."""
        parts: list[_Part] = []
        for number, (network, each) in enumerate(zip(networks, self.rounds, strict=True)):
            parts += self._distances(number, network, each)
        self._add(name, parts)

    def _distances(self, number: int, network: nn.Module, each: _Round) -> list[_Part]:
        """Return the distances of one round, of all processes."""
        mine = self.ranks.together(lambda: self._far(number, network, each))
        return [part for of_rank in self.ranks.gather(mine) for part in of_rank]

    def _add(self, name: str, parts: list[_Part]) -> None:
        ordered = [np.asarray(part[2], dtype=float) for part in sorted(parts)]
        self.distances[name] = np.concatenate(ordered)
        self.candidates.append(self._candidate(name, self.distances[name]))

    def _far(self, number: int, network: nn.Module, each: _Round) -> list[_Part]:
        """Return round, batch and the distance of every example, of our batches."""
        rows = zip(each.numbers, each.theirs, each.held_out, strict=True)
        return [
            (
                number,
                batch,
                divergence([one], answers(network, [inputs]), [inputs], self.measure).tolist(),
            )
            for batch, one, inputs in rows
        ]

    def _candidate(self, name: str, distance: Floats) -> Candidate:
        gain = self.distances[NOTHING] - distance
        far = float(distance.mean()) if bool(np.isfinite(distance).all()) else None
        count = len(gain)
        if count < 2 or not bool(np.isfinite(gain).all()):
            return Candidate(name=name, divergence=far, gain=None)
        error = float(gain.std(ddof=1)) / math.sqrt(count)
        mean, reach = float(gain.mean()), student_quantile(self.confidence, count - 1) * error
        interval = Interval(
            value=mean, low=mean - reach, high=mean + reach, confidence=self.confidence
        )
        return Candidate(name=name, divergence=far, gain=interval)


def changed(pruned: nn.Module, update: Update) -> nn.Module:
    """Return a copy of a network with an update's changes."""
    result = copy.deepcopy(pruned)
    tensors: dict[str, Tensor] = result.state_dict(keep_vars=True)
    with torch.no_grad():
        for key, change in update.changes.items():
            tensors[key].data += change
    return result


def split(batches: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Return batches to fit on and batches to judge by, cut within a batch where needed.

    Raises:
        DataError: There are fewer than four examples.
    """
    check_enough(batches)
    count = sum(map(modules.batch_size, batches))
    held = max(1, min(MOST_HELD_OUT, round(SHARE * count)))
    fitted, rest = [], count - held
    for batch in batches:
        size = modules.batch_size(batch)
        if rest >= size:
            fitted.append(batch)
        elif rest > 0:
            fitted.append(modules.rows_between(batch, 0, rest))
        rest -= size
    return fitted, _last(batches, held)


def folds(batches: Sequence[Any]) -> list[tuple[list[Any], list[Any]]]:
    """Return several ways to fit on most examples and judge by the others, each example once.

    Raises:
        DataError: There are fewer than four examples.
    """
    check_enough(batches)
    count = sum(map(modules.batch_size, batches))
    edges = [count * number // FOLDS for number in range(FOLDS + 1)]
    return [
        (
            [*first(batches, begin), *_last(batches, count - end)],
            _last(first(batches, end), end - begin),
        )
        for begin, end in itertools.pairwise(edges)
    ]


def check_enough(batches: Sequence[Any]) -> None:
    """Raise `DataError` where there are too few examples to fit and to judge by."""
    count = sum(map(modules.batch_size, batches))
    if count < LEAST:
        raise DataError(
            f"compensation needs at least {LEAST} examples to fit and to judge by; {count} were "
            "given."
        )


def first(batches: Sequence[Any], count: int) -> list[Any]:
    """Return batches with the first `count` examples."""
    found, rest = [], count
    for batch in batches:
        size = modules.batch_size(batch)
        if rest <= 0:
            break
        found.append(batch if size <= rest else modules.rows_between(batch, 0, rest))
        rest -= size
    return found


def _last(batches: Sequence[Any], count: int) -> list[Any]:
    found: list[Any] = []
    for batch in reversed(batches):
        if count <= 0:
            break
        size = modules.batch_size(batch)
        found.insert(0, batch if size <= count else modules.rows_between(batch, size - count, size))
        count -= size
    return found
