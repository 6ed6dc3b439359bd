"""The network's outputs without each unit, batch by batch; the front is computed only once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from srinit import modules
from srinit.criteria.options import Options
from srinit.engine import (
    Replayer,
    agrees,
    cheap_dtypes,
    cheaper_copy,
    inputs_for,
    is_close,
    shared_copy,
)
from srinit.errors import ModelError, SurgeryError
from srinit.rng import isolated_rng, seed_for
from srinit.units.bypass import bypassed, replacements, site_of
from srinit.units.records import Unit, UnitMap


class Without:
    """A network that is asked what it answers without each of its units.

    The model is only read: all happens on a copy, cheaper to run where scores agree.
    What lies before a unit is not computed again, where a replay gives what a plain forward does.

    Args:
        model: Any module.
        units: Its units; those that cannot be bypassed are in `problems`.
        batch: Some examples, to prepare with.
        options: Device, scorer, precision.
    """

    def __init__(
        self, model: nn.Module, units: UnitMap, batch: tuple[Any, Any], options: Options
    ) -> None:
        self._units, self._options = units, options
        self.problems: dict[str, str] = {}
        sites = sorted({site_of(unit) for unit in units} - {""})
        plain = _cheaper(model, batch, sites, options) or shared_copy(model)
        self._plain = plain
        self._stand_ins = {unit.name: self._stand_in(plain, unit) for unit in units}
        fast = copy.copy(plain) if not sites else shared_copy(plain)
        self._replayer = Replayer(fast, sites)
        self._fast: frozenset[str] = frozenset()
        if sites:
            with isolated_rng(seed_for("without", options.seed)):
                self._fast = self._try_replays(batch[0])

    def _stand_in(self, plain: nn.Module, unit: Unit) -> nn.Module | None:
        """Return what takes the place of a unit, where that is one module at one place."""
        try:
            found = replacements(plain, unit)
        except SurgeryError as error:
            self.problems[unit.name] = str(error)
            return None
        return found[0][1] if len(found) == 1 and found[0][0] else None

    def _try_replays(self, inputs: object) -> frozenset[str]:
        """Return the units without which a replay gives what a plain forward does."""
        ready = self._ready(modules.rows_between(inputs, 0, 4))
        with torch.no_grad():
            self._replayer.learn(ready)
            same = self._replayer.record(ready)[1]
            good = {u.name for u in self._units if same and self._agrees(u, ready)}
        self._replayer.forget()
        return frozenset(good)

    def _agrees(self, unit: Unit, ready: object) -> bool:
        if self._stand_ins.get(unit.name) is None or site_of(unit) not in self._replayer.known:
            return False
        wanted = modules.logits_of(self._slow(unit, ready))
        try:
            found = modules.logits_of(self._replayed(unit, ready))
        except (RuntimeError, TypeError, ValueError, IndexError, KeyError, ModelError):
            return False
        return is_close(found, wanted)

    def _ready(self, inputs: object) -> object:
        return inputs_for(self._plain, inputs, self._options.device)

    def _replayed(self, unit: Unit, ready: object) -> object:
        stand_in = self._stand_ins[unit.name]
        assert stand_in is not None
        module: Callable[..., Any] = stand_in
        return self._replayer.replay(
            site_of(unit), ready, lambda forward, *args, **kwargs: module(*args, **kwargs)
        )

    def _slow(self, unit: Unit, ready: Any) -> object:
        with bypassed(self._plain, unit):
            return modules.call(self._plain, ready)

    def outputs(self, inputs: object) -> Iterator[tuple[str, Any]]:
        """Yield ("", the whole network's output), then (unit, the output without it) for all."""
        ready = self._ready(inputs)
        with ExitStack() as stack:
            stack.enter_context(isolated_rng(seed_for("without", self._options.seed)))
            stack.enter_context(torch.inference_mode())
            output, same = self._replayer.record(ready)
            yield "", output
            first, step = self._options.share
            for unit in tuple(self._units)[first::step]:
                if unit.name in self.problems:
                    continue
                fast = same and unit.name in self._fast
                yield unit.name, (self._replayed if fast else self._slow)(unit, ready)
            self._replayer.forget()


def _cheaper(
    model: nn.Module, batch: tuple[Any, Any], sites: list[str], options: Options
) -> nn.Module | None:
    """Return a copy that is cheaper to run; None where there is none or scores differ."""
    inputs, _ = batch
    three = modules.to_device(modules.rows_between(inputs, 0, 3), options.device)
    plain = shared_copy(model)
    for dtype in cheap_dtypes(model, "keep" if options.precision == "keep" else "auto"):
        cheap, _ = cheaper_copy(model, dtype, three, sites)
        if agrees(plain, cheap, batch, options.scorer, options.device):
            return cheap
    return None
