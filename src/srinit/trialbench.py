"""A network without each of several sets of units, side by side, scored next to the untouched one.

Networks are scored as they are cut and recalibrated; recalibration counts where examples that it
was not estimated on say that it helps.

What lies before the first unit that differs is not computed again, in the estimation of
normalization as in the scoring: one forward of the reference is recorded, and every other network
runs from its first missing unit on (`sensitivity/replay.py`). The arithmetic is the cheap one of
the scan, where scores of the first batch agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from srinit import modules
from srinit.compensation.recalibrate import check_statistics
from srinit.errors import ModelError, SurgeryError, is_out_of_memory
from srinit.evaluate import Outcomes, Scorer
from srinit.evaluate.loop import Part, joined, outcome_of
from srinit.modules import rows_between
from srinit.rng import isolated_rng, seed_for
from srinit.sensitivity.ready import agrees
from srinit.sensitivity.replay import Replayer
from srinit.sensitivity.working import (
    Precision,
    cheap_dtypes,
    inputs_for,
    is_close,
    lighter_copy,
    own_copy,
    shared_copy,
)
from srinit.units.bypass import Rewritten, bypassed, site_of
from srinit.units.records import Unit

# B batch

TRIED = 2  # examples on which a replay is compared with a plain forward

Batch = tuple[Any, Any]
State = list[tuple[Tensor, Tensor, Tensor]]
"""Mean, variance and number of batches of every normalization."""


@dataclass
class _Network:
    """The network without some units."""

    units: tuple[Unit, ...]
    start: str = ""  # where its replay begins; empty: it is run as a whole
    state: State = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    renewed: State = field(default_factory=list)  # statistics estimated without its units
    renewed_parts: list[Part] = field(default_factory=list)

    def outcomes(self, held_out: int) -> Outcomes:
        """Return the outcomes as it was cut, or recalibrated where held-out scores are higher.

        Args:
            held_out: How many of the last examples no statistics were estimated on.
        """
        cut = joined(self.parts)
        if not self.renewed_parts:
            return cut
        renewed = joined(self.renewed_parts)
        is_better = renewed.scores[-held_out:].mean() > cut.scores[-held_out:].mean()
        return renewed if is_better else cut


class TrialBench:
    """Networks without some units, measured batch by batch next to a reference.

    The model is only read; all happens on one copy.

    Args:
        model: The unpruned network.
        gone: Units that the reference lacks, and all others too.
        sets: Units that are missing besides, one entry a network.
        batch: Some examples, to prepare with.
        scorer: Score per example in [0, 1].
        precision: "auto": bfloat16 where the hardware gains from it and scores agree.

    Raises:
        SurgeryError: A unit cannot be taken out.
    """

    def __init__(
        self,
        model: nn.Module,
        gone: Sequence[Unit],
        sets: Sequence[Sequence[Unit]],
        batch: Batch,
        *,
        scorer: Scorer,
        precision: Precision = "auto",
    ) -> None:
        self._device = modules.device_of(model)
        self._scorer = scorer
        self._rewritten = Rewritten()
        self._is_estimating = False
        self._reference = _Network(tuple(gone))
        self._others = [_Network((*gone, *units)) for units in sets]
        with isolated_rng(seed_for("trials")):
            self._model = _lighter(model, batch, scorer, self._device, precision)
            self._norms = [
                module
                for module in self._model.modules()
                if isinstance(module, _BatchNorm) and module.track_running_stats
            ]
            for network in self._networks:
                network.state = [_statistics(norm) for norm in self._norms]
            for network in self._networks:  # read the code of sites before it is wrapped
                with self._without(network):
                    pass
            sites = sorted({site_of(unit) for units in sets for unit in units} - {""})
            self._replayer = Replayer(self._model, sites)
            self._try_replays(batch[0], sets)

    @property
    def _networks(self) -> list[_Network]:
        return [self._reference, *self._others]

    @property
    def replayed(self) -> int:
        """How many networks run from their first missing unit on."""
        return sum(bool(network.start) for network in self._others)

    def _without(self, network: _Network) -> Any:
        return bypassed(self._model, network.units, rewritten=self._rewritten)

    def _ready(self, inputs: Any) -> Any:
        return inputs_for(self._model, inputs, self._device)

    def _try_replays(self, inputs: Any, sets: Sequence[Sequence[Unit]]) -> None:
        """Note where each network's replay begins, if it gives what a plain forward does."""
        size = modules.batch_size(inputs)
        ready = self._ready(rows_between(inputs, 0, min(TRIED, size)))
        with torch.no_grad():
            self._use(self._reference)
            with self._without(self._reference):
                self._replayer.learn(ready)
                same = self._replayer.record(ready)[1]
            for network, units in zip(self._others, sets, strict=True):
                wanted = self._plain(network, ready)
                first = min(units, key=lambda unit: unit.position, default=None)
                if (
                    same
                    and first is not None
                    and self._agrees(network, site_of(first), ready, wanted)
                ):
                    network.start = site_of(first)
        self._replayer.forget()

    def _plain(self, network: _Network, ready: Any) -> Tensor:
        try:
            with self._without(network):
                return modules.logits_of(modules.call(self._model, ready))
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            names = ", ".join(unit.name for unit in network.units)
            raise SurgeryError(
                f"without {names} the network does not run: {type(error).__name__}: {error}"
            ) from error

    def _agrees(self, network: _Network, start: str, ready: Any, wanted: Tensor) -> bool:
        """Return whether a replay gives what a plain forward does."""
        if start not in self._replayer.known:
            return False
        try:
            with self._without(network):
                found = modules.logits_of(self._replayer.replay(start, ready, None))
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, ModelError):
            return False
        return is_close(found, wanted)

    def recalibrate(self, data: Sequence[Batch]) -> None:
        """Estimate the normalization of every network but the reference anew, beside what it has.

        Statistics are plain averages over the batches.

        Raises:
            DataError: No batch has two examples, or a statistic would not be finite.
        """
        if not self._norms:
            return
        count = 0
        for network in self._others:
            network.renewed = [_empty(each) for each in network.state]
        with self._estimating(), torch.no_grad():
            for inputs, _ in data:
                if modules.batch_size(inputs) > 1:
                    count += 1
                    for _ in self._outputs(inputs, renewed=True):
                        pass
        for network in self._others:  # what lies before the cut stays as it is
            pairs = zip(network.renewed, network.state, strict=True)
            network.renewed = [new if int(new[2]) else old for new, old in pairs]
            check_statistics(count, (value for each in network.renewed for value in each))

    def outcomes(
        self, data: Sequence[Batch], *, on_batch: Callable[[], None] | None = None
    ) -> list[Outcomes]:
        """Return the outcomes of the untouched reference, and those of every network after it.

        Recalibration is estimated on the first half of the batches, and counts where the scores on
        the second half are higher with it; on a single batch it is not tried.
        """
        first = len(data) // 2
        if first:
            self.recalibrate(data[:first])
        held_out = sum(modules.batch_size(inputs) for inputs, _ in data[first:])
        with torch.inference_mode():
            for inputs, target in data:
                for renewed in (False, True) if first and self._norms else (False,):
                    for network, output in self._outputs(inputs, renewed=renewed):
                        scored = outcome_of(output, target, self._scorer)
                        (network.renewed_parts if renewed else network.parts).append(scored)
                if on_batch is not None:
                    on_batch()
        self._reference.renewed_parts = []
        return [network.outcomes(held_out) for network in self._networks]

    def _outputs(self, inputs: Any, *, renewed: bool = False) -> Iterator[tuple[_Network, Any]]:
        ready = self._ready(inputs)
        with isolated_rng(seed_for("trials")):
            self._use(self._reference, renewed=renewed)
            with self._without(self._reference):
                output, same = self._replayer.record(ready)
            yield self._reference, output
            for network in self._others:
                self._use(network, renewed=renewed)
                with self._without(network):
                    if same and network.start:
                        yield network, self._replayer.replay(network.start, ready, None)
                    else:
                        yield network, modules.call(self._model, ready)
            self._replayer.forget()

    def _use(self, network: _Network, *, renewed: bool = False) -> None:
        """Give the copy a network's statistics; those of the reference are never estimated."""
        is_renewed = renewed and bool(network.renewed)
        state = network.renewed if is_renewed else network.state
        for norm, (mean, variance, count) in zip(self._norms, state, strict=True):
            norm.training = self._is_estimating and is_renewed
            norm.running_mean, norm.running_var = mean, variance
            norm.num_batches_tracked = count

    @contextmanager
    def _estimating(self) -> Iterator[None]:
        """Let normalization average over batches, for a while."""
        momenta = [norm.momentum for norm in self._norms]
        self._is_estimating = True
        try:
            for norm in self._norms:
                norm.momentum = None
            yield
        finally:
            self._is_estimating = False
            for norm, momentum in zip(self._norms, momenta, strict=True):
                norm.momentum, norm.training = momentum, False


def _lighter(
    model: nn.Module,
    batch: Batch,
    scorer: Scorer,
    device: torch.device,
    precision: Precision,
) -> nn.Module:
    """Return a copy that is cheaper to run where there is one and scores agree."""
    size = modules.batch_size(batch[0])
    own = own_copy(model, modules.to_device(rows_between(batch[0], 0, min(3, size)), device))
    plain = shared_copy(own)
    for dtype in cheap_dtypes(own, precision):
        cheap = lighter_copy(own, dtype)
        if agrees(plain, cheap, batch, scorer, device):
            return cheap
    return plain


def _statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor, Tensor]:
    """Return a normalization's statistics as tensors of our own."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    count = norm.num_batches_tracked
    own = torch.zeros((), dtype=torch.long) if count is None else count.clone()
    return norm.running_mean.clone(), norm.running_var.clone(), own


def _empty(state: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    mean, variance, count = state
    return torch.zeros_like(mean), torch.ones_like(variance), torch.zeros_like(count)
