"""Chooses what is done after a cut on examples that it was not fitted on, "nothing" included."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from srinit import modules
from srinit.compensation.answers import Floats, Measure, answers, divergence
from srinit.compensation.equations import LEAST_ROWS
from srinit.compensation.normalization import with_new_statistics
from srinit.compensation.recalibrate import recalibrate
from srinit.compensation.records import Candidate, Choice, Compensation
from srinit.compensation.teacher import ROOM, Teacher
from srinit.compensation.walk import Update, realign
from srinit.distributed import ProcessGroup
from srinit.errors import DataError
from srinit.stats.paired import student_quantile

NOTHING = "nothing"
PARTS = (1.0, 0.5)  # of a realignment's changes
FEW = 256  # examples that candidates are fitted on; the one that is chosen is fitted on all
FEW_ROWS = 28_000  # positions of them that are read for a map at least
STATISTICS = 512  # examples that estimate what normalizations read in the end
SHARE = 0.25  # of many examples is held out
FOLDS = 3  # of few examples each third is held out in turn
LEAST = 6  # examples
LESSER = ("realigned joins", "bias")
SETTLED = 0.5  # of the distance without anything, below which lesser remedies are not tried
MOST_HELD_OUT = 128
FOLDS_BELOW = 256  # answers; with more, one part is held out
LEAST_TO_SPLIT = 32  # examples
Progress = Callable[[int, int], None]
_Way = Callable[[list[Any], int], Update]  # batches and positions -> what a realignment changes


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
        offer_realignment: Whether solving linear maps again is one.
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
        offer_realignment: bool = True,
        ranks: ProcessGroup | None = None,
    ) -> None:
        self.model, self.pruned, self.origins = model, pruned, origins
        self.measure, self.confidence = measure, confidence
        self.realigns = offer_realignment
        self.batches, self.ranks = list(batches), ranks or ProcessGroup(alone=True)
        is_few = self._num_answers() < FOLDS_BELOW
        parts = folds(batches) if is_few else [split(batches)]
        self.rounds = [self._round(first(fitted, FEW), held) for fitted, held in parts]
        self.teachers: dict[int, Teacher] = {}  # by the id of a round's batches
        self.distances: dict[str, Floats] = {}
        self.candidates: list[Candidate] = []
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
        ways: dict[str, _Way] = {
            "realigned": self._realigned,
            "realigned twice": partial(self._realigned, twice=True),
            "realigned joins": partial(self._realigned, joins=True),
            "bias": partial(self._realigned, strength=math.inf),
        }
        if self.recalibrates:
            found = [copy.deepcopy(self.pruned) for _ in self.rounds]
            for network, each in zip(found, self.rounds, strict=True):
                recalibrate(network, [(batch, None) for batch in each.few], ranks=self.ranks)
            self._judge("recalibrated", found)
        updates: list[Update] = []
        for number, (name, way) in enumerate(ways.items() if self.realigns else ()):
            if name in LESSER and self._is_settled():
                continue
            if name == "realigned twice" and not any(update.before_relu for update in updates):
                continue  # it would be the same
            updates = [way(each.few, FEW_ROWS) for each in self.rounds]
            for part in PARTS if any(update.changes for update in updates) else ():
                if part != 1.0 and self._is_settled():
                    continue
                label = name if part == 1.0 else f"{name}, {part:g} of it"
                self._judge(label, [changed(self.pruned, update, part) for update in updates])
            if on_progress is not None:
                on_progress(number + 1, len(ways) + 1)
        best = min(self.candidates, key=lambda c: c.divergence)
        if best.name != NOTHING and not best.low > 0:
            best = self.candidates[0]
        return self._finished(self.ranks.broadcast(self._whole(best)), ways)

    def _is_settled(self) -> bool:
        """Whether lesser remedies need not be tried: many examples, and most is put right."""
        far = {each.name: each.divergence for each in self.candidates}
        settled = min(far.values()) < SETTLED * far[NOTHING]
        return settled and len(self.rounds) == 1

    def _whole(self, best: Candidate) -> str:
        """Return the name of the best, or of the whole of it where that is hardly farther.

        The chosen one is fitted again on more examples than it was judged with, and what was
        too much for the few is not for all of them. Hardly: by less than one standard error.
        """
        name = best.name.partition(", ")[0]
        if name == best.name:
            return best.name
        excess = self.distances[name] - self.distances[best.name]
        error = float(excess.std(ddof=1)) / math.sqrt(len(excess))
        by_name = {each.name: each for each in self.candidates}
        return name if by_name[name].low > 0 and float(excess.mean()) <= error else best.name

    def _finished(self, name: str, ways: Mapping[str, _Way]) -> Compensation:
        batches = self.batches
        update, model = Update(), copy.deepcopy(self.pruned)
        if name == "recalibrated":
            recalibrate(model, [(batch, None) for batch in batches], ranks=self.ranks)
        elif name != NOTHING:
            way, _, part = name.partition(", ")
            update = ways[way](batches, LEAST_ROWS)  # on held-out ones as well: the choice is made
            model = changed(self.pruned, update, float(part.split()[0]) if part else 1.0)
            with_new_statistics(model, first(batches, STATISTICS), self.ranks)
        return Compensation(model, self._choice(name, update, batches))

    def _choice(self, name: str, update: Update, batches: Sequence[Any]) -> Choice:
        return Choice(
            chosen=name,
            candidates=tuple(self.candidates),
            solved=tuple(update.solved),
            left=tuple(update.left),
            num_fitted=sum(map(modules.batch_size, batches)) if name != NOTHING else 0,
            num_held_out=len(self.distances[NOTHING]),
            confidence=self.confidence,
            measure=self.measure,
        )

    def _realigned(
        self,
        batches: list[Any],
        least_rows: int,
        *,
        joins: bool = False,
        twice: bool = False,
        strength: float | None = None,
    ) -> Update:
        teacher = self._teacher(batches)
        return realign(
            self.model,
            copy.deepcopy(self.pruned),
            self.origins,
            teacher.batches,
            strength=strength,
            least_rows=least_rows,
            twice=twice,
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
        pairs = list(zip(networks, self.rounds, strict=True))
        mine = self.ranks.together(
            lambda: [part for number, pair in enumerate(pairs) for part in self._far(number, *pair)]
        )
        parts = sorted(part for of_rank in self.ranks.gather(mine) for part in of_rank)
        self.distances[name] = np.concatenate([np.asarray(part[2], dtype=float) for part in parts])
        self.candidates.append(self._candidate(name, self.distances[name]))

    def _far(self, number: int, network: nn.Module, each: _Round) -> list[tuple[int, int, Any]]:
        """Return round, batch and the distance of every example, of our batches."""
        ours = zip(each.theirs, answers(network, each.held_out), each.held_out, strict=True)
        return [
            (number, batch, divergence([one], [other], [inputs], self.measure).tolist())
            for batch, (one, other, inputs) in zip(each.numbers, ours, strict=True)
        ]

    def _candidate(self, name: str, distance: Floats) -> Candidate:
        gain = self.distances[NOTHING] - distance
        mean, count = float(gain.mean()), len(gain)
        reach = math.inf
        if count > 1:
            error = float(gain.std(ddof=1)) / math.sqrt(count)
            reach = student_quantile(self.confidence, count - 1) * error
        far = float(distance.mean()) if bool(np.isfinite(distance).all()) else math.inf
        return Candidate(name=name, divergence=far, gain=mean, low=mean - reach, high=mean + reach)


def changed(pruned: nn.Module, update: Update, part: float) -> nn.Module:
    """Return a copy of a network with a part of an update's changes."""
    result = copy.deepcopy(pruned)
    tensors: dict[str, Tensor] = result.state_dict(keep_vars=True)
    with torch.no_grad():
        for key, change in update.changes.items():
            tensors[key].data += part * change
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
