"""Measured latency: medians of many calls, and two models timed in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from srinit import modules
from srinit.records import record

WARM_UP = 2
MIN_REPEATS = 7
MAX_SECONDS = 2.0  # for each of the networks timed in turn
BOOTSTRAP = 1000


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
    runtime: str = "torch"  # or "onnxruntime"
    samples_ms: tuple[float, ...] = ()  # every timed call, in order; to 0.1 microseconds


@record
class LatencyPair:
    """Baseline and pruned network timed in turn, so that a drifting machine hits both."""

    baseline: Latency
    pruned: Latency
    ratio: float  # median over pairs of pruned / baseline
    ratio_low: float  # 95 % bootstrap interval over pairs
    ratio_high: float


def measure_latency(
    model: nn.Module, inputs: Any, *, batch_size: int = 1, repeats: int = 30
) -> Latency:
    """Return how long `model` takes for one batch.

    Args:
        model: Timed in evaluation mode; its train flags are restored.
        inputs: Examples; repeated or cut to `batch_size` along the first dimension.
        batch_size: Examples a call.
        repeats: Timed calls at most, after two that are not counted; slow networks get fewer.
    """
    times = time_in_turn([_caller(model, inputs, batch_size)], repeats)[0]
    return summarize(times, batch_size=batch_size, device=modules.device_of(model))


def measure_latency_pair(
    baseline: nn.Module, pruned: nn.Module, inputs: Any, *, batch_size: int = 1, repeats: int = 30
) -> LatencyPair:
    """Return the latency of both networks, timed call by call in turn."""
    callers = [_caller(model, inputs, batch_size) for model in (baseline, pruned)]
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
        ratio=float(np.median(ratios)),
        ratio_low=float(low),
        ratio_high=float(high),
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


def time_in_turn(callers: list[Callable[[], None]], repeats: int) -> list[list[float]]:
    """Return the seconds of each call of each caller, taken in turn after a warm-up.

    At most `repeats` rounds; slow callers get fewer, but never fewer than `MIN_REPEATS`.
    """
    started = time.perf_counter()
    for _ in range(WARM_UP):
        for caller in callers:
            caller()
    times: list[list[float]] = [[] for _ in callers]
    for number in range(repeats):
        if number >= MIN_REPEATS and time.perf_counter() - started > MAX_SECONDS * len(callers):
            break
        for caller, found in zip(callers, times, strict=True):
            begin = time.perf_counter()
            caller()
            found.append(time.perf_counter() - begin)
    return times


def resized(inputs: Any, batch_size: int) -> Any:
    """Return `inputs` repeated or cut to `batch_size` along the first dimension."""
    size = modules.batch_size(inputs)

    def fit(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or tensor.shape[0] != size:
            return tensor
        return torch.cat([tensor] * -(-batch_size // size))[:batch_size]

    return modules.tree_map(fit, inputs)


def _caller(model: nn.Module, inputs: Any, batch_size: int) -> Callable[[], None]:
    batch = resized(inputs, batch_size)
    device = modules.device_of(model)

    def call() -> None:
        with modules.eval_mode(model), torch.inference_mode():
            modules.call_once(model, batch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

    return call
