"""Chooses what is done after a cut on examples that it was not fitted on, "nothing" included."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from srinit import modules
from srinit.compensation.answers import Floats, Measure, answers, divergence
from srinit.compensation.normalization import with_new_statistics
from srinit.compensation.recalibrate import recalibrate
from srinit.compensation.records import Candidate, Choice, Compensation
from srinit.compensation.walk import Update, realign
from srinit.errors import DataError

PARTS = (1.0, 0.5)  # of a realignment's changes
FEW = 256  # examples that candidates are fitted on; the one that is chosen is fitted on all
SHARE = 0.25  # of the examples is held out
MOST_HELD_OUT = 256
REFIT_BELOW = 256  # with fewer examples the chosen one is fitted on the held-out ones as well
Progress = Callable[[int, int], None]


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
    """

    def __init__(
        self,
        model: nn.Module,
        pruned: nn.Module,
        origins: Mapping[str, str],
        batches: Sequence[Any],
        *,
        measure: Measure = "kl",
        confidence: float = 0.95,
        offer_recalibration: bool = True,
        offer_realignment: bool = True,
    ) -> None:
        self.model, self.pruned, self.origins = model, pruned, origins
        self.measure, self.confidence = measure, confidence
        self.realigns = offer_realignment
        self.fitted, self.held_out = split(batches)
        self.few = first(self.fitted, FEW)
        self.theirs = answers(model, self.held_out)
        self.nothing = self._distance(pruned)
        self.candidates: list[Candidate] = [self._candidate("nothing", self.nothing)]
        self.recalibrates = offer_recalibration and any(
            isinstance(m, _BatchNorm) and m.track_running_stats for m in pruned.modules()
        )

    def choose(self, on_progress: Progress | None = None) -> Compensation:
        """Return the network with the candidate whose answers are nearest, and why."""
        ways: dict[str, Callable[[list[Any]], Update]] = {
            "realigned": lambda b: self._realigned(b),
            "realigned joins": lambda b: self._realigned(b, joins=True),
            "bias": lambda b: self._realigned(b, strength=math.inf),
        }
        if self.recalibrates:
            found = copy.deepcopy(self.pruned)
            recalibrate(found, [(batch, None) for batch in self.few])
            self.candidates.append(self._candidate("recalibrated", self._distance(found)))
        for number, (name, way) in enumerate(ways.items() if self.realigns else ()):
            update = way(self.few)
            for part in PARTS if update.changes else ():
                moved = changed(self.pruned, update, part)
                label = name if part == 1.0 else f"{name}, {part:g} of it"
                self.candidates.append(self._candidate(label, self._distance(moved)))
            if on_progress is not None:
                on_progress(number + 1, len(ways) + 1)
        best = min(self.candidates, key=lambda c: c.divergence)
        if best.name != "nothing" and not best.low > 0:
            best = self.candidates[0]
        return self._finished(best.name, ways)

    def _finished(
        self, name: str, ways: Mapping[str, Callable[[list[Any]], Update]]
    ) -> Compensation:
        every = [*self.fitted, *self.held_out]
        count = sum(map(modules.batch_size, every))
        batches = every if count < REFIT_BELOW else self.fitted
        update, model = Update(), copy.deepcopy(self.pruned)
        if name == "recalibrated":
            recalibrate(model, [(batch, None) for batch in batches])
        elif name != "nothing":
            way, _, part = name.partition(", ")
            update = ways[way](batches)
            model = changed(self.pruned, update, float(part.split()[0]) if part else 1.0)
            with_new_statistics(model, batches)
        return Compensation(model, self._choice(name, update, batches))

    def _choice(self, name: str, update: Update, batches: Sequence[Any]) -> Choice:
        return Choice(
            chosen=name,
            candidates=tuple(self.candidates),
            solved=tuple(update.solved),
            left=tuple(update.left),
            num_fitted=sum(map(modules.batch_size, batches)) if name != "nothing" else 0,
            num_held_out=len(self.nothing),
            confidence=self.confidence,
            measure=self.measure,
        )

    def _realigned(
        self, batches: list[Any], *, joins: bool = False, strength: float | None = None
    ) -> Update:
        copied = copy.deepcopy(self.pruned)
        return realign(
            self.model,
            copied,
            self.origins,
            batches,
            strength=strength,
            only=(lambda each: each.joins or each.bridges) if joins else (lambda _: True),
        )

    def _distance(self, network: nn.Module) -> Floats:
        ours = answers(network, self.held_out)
        return divergence(self.theirs, ours, self.held_out, self.measure)

    def _candidate(self, name: str, distance: Floats) -> Candidate:
        gain = self.nothing - distance
        mean, count = float(gain.mean()), len(gain)
        reach = math.inf
        if count > 1:
            error = float(gain.std(ddof=1)) / math.sqrt(count)
            reach = float(stats.t.ppf(0.5 + self.confidence / 2, count - 1)) * error
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
    count = sum(map(modules.batch_size, batches))
    if count < 4:
        raise DataError(
            f"compensation needs at least 4 examples to fit and to judge by; {count} were given."
        )
    held = max(2, min(MOST_HELD_OUT, round(SHARE * count)))
    fitted, rest = [], count - held
    for batch in batches:
        size = modules.batch_size(batch)
        if rest >= size:
            fitted.append(batch)
        elif rest > 0:
            fitted.append(_cut(batch, 0, rest))
        rest -= size
    return fitted, _last(batches, held)


def first(batches: Sequence[Any], count: int) -> list[Any]:
    """Return batches with the first `count` examples."""
    found, rest = [], count
    for batch in batches:
        size = modules.batch_size(batch)
        if rest <= 0:
            break
        found.append(batch if size <= rest else _cut(batch, 0, rest))
        rest -= size
    return found


def _last(batches: Sequence[Any], count: int) -> list[Any]:
    found: list[Any] = []
    for batch in reversed(batches):
        if count <= 0:
            break
        size = modules.batch_size(batch)
        found.insert(0, batch if size <= count else _cut(batch, size - count, size))
        count -= size
    return found


def _cut(batch: Any, begin: int, end: int) -> Any:
    size = modules.batch_size(batch)

    def cut(tensor: Tensor) -> Tensor:
        whole = tensor.ndim == 0 or tensor.shape[0] != size
        return tensor if whole else tensor[begin:end]

    return modules.tree_map(cut, batch)
