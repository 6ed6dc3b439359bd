"""How long a scan will take: from its first batches, or, where those take long, from forwards."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from torch import nn

from srinit import modules
from srinit.distributed import ProcessGroup
from srinit.engine import (
    Batch,
    cheap_dtypes,
    costs_of,
    eager,
    inputs_for,
    lighter_copy,
    open_examples,
    shared_copy,
)
from srinit.evaluate import Scorer, top1
from srinit.records import record
from srinit.rng import isolated_rng
from srinit.sensitivity.design import FIRST_PER_DRAW, num_observations, suffix_flops
from srinit.sensitivity.scheme_selection import CANDIDATES, EXAMPLES, choose_scheme, sample_of
from srinit.sensitivity.settings import Settings, settings_of, targets_of
from srinit.sensitivity.setup import Setup
from srinit.sensitivity.streaming import StreamingScan
from srinit.units.records import UnitMap

VARIANCE = (
    0.1  # of the drop in one draw, where none was measured: that of a score in ten that falls
)
TIMED = 3  # forwards
READY = 6.0  # forwards of a batch that making a copy ready takes, about


@record
class Estimate:
    """How long a scan will take."""

    seconds: float
    num_examples: int  # of which the most demanding unit is expected to need
    batches_measured: int
    basis: Literal["batches", "forwards"] = "batches"  # of the scan; or of the network alone


def estimate_time(
    model: nn.Module,
    units: UnitMap,
    data: Iterable[Batch],
    *,
    scorer: Scorer = top1,
    device: torch.device | str | None = None,
    batches: int = 2,
    budget: float | None = None,
    **settings: Any,
) -> Estimate:
    """Return how long `measure_sensitivity` with these arguments will take.

    The choice of a scheme and a few batches are measured for it. The spread of the drops in them
    says how many more are needed; an early decision by `max_drop` is not foreseen, so that the
    estimate is rather high. Where that would take longer than `budget`, a few forwards of the
    network are timed, and the spread is taken to be that of scores one in ten of which falls.

    `settings` are those of a scan (`srinit.sensitivity.Settings`), the other arguments those of
    `measure_sensitivity`; `batches` is how many are measured, and `budget` the seconds that the
    estimate itself may take, about (None: as long as it takes).

    Raises:
        TypeError: There is no such setting.
        ValueError: A setting is out of range.
    """
    asked = settings_of(model, units, device, **settings)
    place = torch.device(modules.device_of(model) if device is None else device)
    data = list(data) if isinstance(data, Iterator) else data  # read twice
    with eager():
        if budget is not None:
            found = _by_forwards(model, units, data, asked, place, batches, budget)
            if found is not None:
                return found
        return _by_batches(model, units, data, asked, scorer, place, batches)


def _by_batches(
    model: nn.Module,
    units: UnitMap,
    data: Iterable[Batch],
    settings: Settings,
    scorer: Scorer,
    device: torch.device,
    batches: int,
) -> Estimate:
    began = time.perf_counter()
    setup = Setup.of(
        model, units, data, settings, scorer=scorer, device=device, ranks=ProcessGroup()
    )
    journal = setup.open(None)
    choice = choose_scheme(setup, journal)
    problems = setup.bench.check(choice.perturbation)
    scan = StreamingScan(setup, choice.perturbation, problems, None)
    ready = time.perf_counter()
    count = sum(1 for _ in itertools.islice(scan.steps(journal), batches))
    now = time.perf_counter()
    measured = [estimator for estimator in scan.estimators.values() if not estimator.problem]
    if setup.num_draws is not None:
        factor = setup.num_draws * len(setup.order) / max(scan.seen, 1)
        seconds = ready - began + (now - ready) * factor
        return Estimate(seconds=seconds, num_examples=len(setup.order), batches_measured=count)
    left = scan.progress.seconds_left(measured) or 0.0
    most = max((scan.progress.examples_left(t) + t.num_examples for t in measured), default=0)
    return Estimate(seconds=now - began + left, num_examples=int(most), batches_measured=count)


def _by_forwards(
    model: nn.Module,
    units: UnitMap,
    data: Iterable[Batch],
    settings: Settings,
    device: torch.device,
    batches: int,
    budget: float,
) -> Estimate | None:
    """Return an estimate from a few forwards; None where batches of the scan fit the budget."""
    examples = open_examples(data)
    count = min(len(examples), settings.max_examples or len(examples))
    inputs, _ = next(examples.read([list(range(min(2, count)))]))
    plain = seconds_per_example(shared_copy(model), inputs, device, budget=budget / 4)
    targets, whole = targets_of(units), max(float(units.flops), 1.0)
    flops = suffix_flops(units)
    share = {t.name: flops.get(t.name, whole) / whole for t in targets}
    tried = sum(share[name] for name in sample_of(targets))
    selection = len(CANDIDATES) * EXAMPLES * tried if settings.scheme == "auto" else 0.0
    batch = min(settings.batch_size, count)
    thorough = selection + batch * (READY + batches * (1 + sum(share.values())))
    if plain * thorough <= budget:
        return None
    dtype = next(iter(cheap_dtypes(model, settings.precision)), None)
    each = plain
    if dtype is not None:
        copy = lighter_copy(model, dtype)
        each = min(plain, seconds_per_example(copy, inputs, device, budget=budget / 4))
    costs = costs_of(device, dtype)
    params = {t.name: modules.count_params(model.get_submodule(t.name)) for t in targets}

    def draw(name: str) -> float:
        return costs.per_draw + costs.per_param * params[name]

    if settings.draws is not None or settings.scheme == "paper":
        number = settings.draws or 1
        seconds = count * each * (1 + number * sum(share.values()))
        seconds += number * sum(draw(t.name) for t in targets)
        return Estimate(seconds=seconds, num_examples=count, batches_measured=0, basis="forwards")
    need = num_observations(VARIANCE, settings.half_width or 0.02, settings.confidence)
    read = min(int(need * FIRST_PER_DRAW), count)
    seconds = each * (selection + batch * READY + read * (1 + sum(share.values())))
    seconds += sum(draw(t.name) * read / FIRST_PER_DRAW for t in targets)
    return Estimate(seconds=seconds, num_examples=read, batches_measured=0, basis="forwards")


def seconds_per_example(
    model: nn.Module, inputs: Any, device: torch.device | str, *, budget: float
) -> float:
    """Return the time of one example in a forward of these, in evaluation mode.

    The first forward warms up; it is the only one where it takes a third of the budget.

    Args:
        model: Its train flags are as before afterwards.
        inputs: A batch.
        device: Where it goes.
        budget: Seconds for all forwards, about.
    """
    size, found = modules.batch_size(inputs), []
    began = time.perf_counter()
    place = torch.device(device)
    with modules.eval_mode(model), torch.inference_mode(), isolated_rng(0):
        ready = inputs_for(model, inputs, place)
        for number in range(1 + TIMED):
            begin = time.perf_counter()
            modules.call(model, ready)
            if place.type == "cuda":
                torch.cuda.synchronize(place)
            found.append(time.perf_counter() - begin)
            if time.perf_counter() - began > budget * (number + 1) / 3:
                break
    timed = found[1:] or found
    return sorted(timed)[len(timed) // 2] / size
