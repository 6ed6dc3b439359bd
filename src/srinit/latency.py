"""Measured latency: medians of many calls, and two models timed in turn."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from srinit import modules
from srinit.evaluate import inputs_of
from srinit.records import Interval, record

WARM_UP = 2
MIN_REPEATS = 7
MAX_SECONDS = 2.0  # for each of the networks timed in turn
BOOTSTRAP = 1000
CONFIDENCE = 0.95


@record
class Latency:
    """Time of one call, in milliseconds, on the device of the model."""

    batch_size: int
    median_ms: float
    low_ms: float  # 10th percentile
    high_ms: float  # 90th percentile
    repeats: int
    device: str
    threads: int
    runtime: str = "torch"  # or "onnxruntime", "openvino"
    samples_ms: tuple[float, ...] = ()  # every timed call, in order; to 0.1 microseconds


@record
class LatencyPair:
    """Baseline and pruned network timed in turn, so that a drifting machine hits both."""

    baseline: Latency
    pruned: Latency
    ratio: Interval  # median over pairs of pruned / baseline, by bootstrap over pairs


def measure_latency(
    model: nn.Module,
    inputs: object,
    *,
    batch_size: int = 1,
    repeats: int = 30,
    max_seconds: float = MAX_SECONDS,
    least: int = MIN_REPEATS,
) -> Latency:
    """Return how long `model` takes for one batch.

    Args:
        model: Timed in evaluation mode; its train flags are restored.
        inputs: Examples; repeated or cut to `batch_size` along the first dimension.
        batch_size: Examples a call.
        repeats: Timed calls at most, after two that are not counted; slow networks get fewer.
        max_seconds: After which a network counts as slow.
        least: Timed calls of a slow one.
    """
    caller = call_of(model, inputs, batch_size)
    with modules.untouched(model):
        times = time_in_turn([caller], repeats, max_seconds=max_seconds, least=least)[0]
    return summarize(times, batch_size=batch_size, device=modules.device_of(model))


def measure_latency_pair(
    baseline: nn.Module,
    pruned: nn.Module,
    inputs: object,
    *,
    batch_size: int = 1,
    repeats: int = 30,
) -> LatencyPair:
    """Return the latency of both networks, timed call by call in turn."""
    callers = [call_of(model, inputs, batch_size) for model in (baseline, pruned)]
    with modules.untouched(baseline), modules.untouched(pruned):
        one, other = time_in_turn(callers, repeats)
    return pair(one, other, batch_size=batch_size, device=modules.device_of(baseline))


def pair(
    baseline: list[float],
    pruned: list[float],
    *,
    batch_size: int,
    device: torch.device | str,
    runtime: str = "torch",
) -> LatencyPair:
    """Return the record for two lists of times (seconds) measured in turn."""
    ratios = np.array(pruned) / np.array(baseline)
    draws = np.random.default_rng(0).choice(ratios, (BOOTSTRAP, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return LatencyPair(
        baseline=summarize(baseline, batch_size=batch_size, device=device, runtime=runtime),
        pruned=summarize(pruned, batch_size=batch_size, device=device, runtime=runtime),
        ratio=Interval(
            value=float(np.median(ratios)),
            low=float(low),
            high=float(high),
            confidence=CONFIDENCE,
        ),
    )


def summarize(
    times: list[float], *, batch_size: int, device: torch.device | str, runtime: str = "torch"
) -> Latency:
    """Return the record for a list of times in seconds."""
    low, median, high = (float(q) for q in np.quantile(np.array(times) * 1e3, [0.1, 0.5, 0.9]))
    return Latency(
        batch_size=batch_size,
        median_ms=median,
        low_ms=low,
        high_ms=high,
        repeats=len(times),
        device=str(device),
        threads=torch.get_num_threads(),
        runtime=runtime,
        samples_ms=tuple(round(1e3 * seconds, 4) for seconds in times),
    )


def time_in_turn(
    callers: list[Callable[[], None]],
    repeats: int,
    *,
    max_seconds: float = MAX_SECONDS,
    least: int = MIN_REPEATS,
) -> list[list[float]]:
    """Return the seconds of each call of each caller, taken in turn after a warm-up.

    At most `repeats` rounds; slow callers get fewer, but never fewer than `least`.
    """
    started = time.perf_counter()
    for _ in range(WARM_UP):
        for caller in callers:
            caller()
    times: list[list[float]] = [[] for _ in callers]
    for number in range(repeats):
        if number >= least and time.perf_counter() - started > max_seconds * len(callers):
            break
        for caller, found in zip(callers, times, strict=True):
            begin = time.perf_counter()
            caller()
            found.append(time.perf_counter() - begin)
    return times


def unit_times(
    model: nn.Module,
    units: Mapping[str, Sequence[str]],
    inputs: object,
    *,
    batch_size: int = 1,
    repeats: int = 5,
) -> dict[str, float]:
    """Return the milliseconds that each unit takes within a forward of `model`, as medians.

    Args:
        model: Its hooks are as before afterwards.
        units: Submodules that make up each unit, by its name.
        inputs: Examples; repeated or cut to `batch_size`.
        batch_size: Examples a call.
        repeats: Timed forwards, after two that are not counted.

    Returns:
        Zero for a unit that cannot be watched, or is not called.
    """
    owners = {part: name for name, parts in units.items() for part in parts}
    clock, call = _Clock(modules.device_of(model)), call_of(model, inputs, batch_size)
    found: dict[str, list[float]] = {name: [] for name in units}
    handles: list[Any] = []
    try:
        for part, name in owners.items():
            module = model.get_submodule(part)
            if isinstance(module, torch.jit.ScriptModule):
                continue
            handles.append(module.register_forward_pre_hook(partial(clock.begin, part)))
            handles.append(module.register_forward_hook(partial(clock.end, part, name)))
        for number in range(WARM_UP + repeats):
            clock.spent.clear()
            call()
            for name, times in found.items():
                if number >= WARM_UP:
                    times.append(clock.spent.get(name, 0.0))
    finally:
        for handle in handles:
            handle.remove()
    return {name: 1e3 * float(np.median(times)) for name, times in found.items()}


class _Clock:
    """Adds up the seconds between the begin and the end of modules, by their owner."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._begun: dict[str, float] = {}
        self.spent: dict[str, float] = {}

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def begin(self, part: str, *_: object) -> None:
        self._begun[part] = self._now()

    def end(self, part: str, name: str, *_: object) -> None:
        seconds = self._now() - self._begun.pop(part, math.inf)
        self.spent[name] = self.spent.get(name, 0.0) + max(seconds, 0.0)


def resized(inputs: Any, batch_size: int) -> Any:
    """Return `inputs` repeated or cut to `batch_size` along the first dimension."""
    size = modules.batch_size(inputs)

    def fit(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or tensor.shape[0] != size:
            return tensor
        return torch.cat([tensor] * -(-batch_size // size))[:batch_size]

    return modules.tree_map(fit, inputs)


def call_of(model: nn.Module, inputs: object, batch_size: int) -> Callable[[], None]:
    """Return a call of a network on some examples, repeated or cut to `batch_size`."""
    batch = resized(inputs_of(inputs, model), batch_size)
    device = modules.device_of(model)

    def call() -> None:
        with modules.eval_mode(model), torch.inference_mode():
            modules.call_once(model, batch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

    return call
