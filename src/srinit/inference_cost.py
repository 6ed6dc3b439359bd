"""What 1,000 answers cost on the device at hand: time, memory, and an estimate of the energy."""

from __future__ import annotations

import statistics
import time
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from srinit import modules
from srinit.evaluate import inputs_of
from srinit.latency import resized
from srinit.records import record

RAPL = Path("/sys/class/powercap/intel-rapl:0/energy_uj")  # of the whole processor package
WARM_UP, MIN_CALLS = 2, 5
JOULES_PER_WH = 3600


@record
class CostOf1000:
    """Measured for one network and one batch size; energy is an estimate."""

    device: str
    batch_size: int
    seconds_per_1000: float  # wall-clock, by the median call
    processor_seconds_per_1000: float  # over all cores
    peak_bytes: int  # weights and live intermediate results of one call
    energy_wh_per_1000: float
    energy_method: str  # how the energy was come by


@record
class InferenceCostPair:
    """Both networks, measured one after the other."""

    baseline: CostOf1000
    pruned: CostOf1000


@record
class InferenceCost:
    """Both networks at every batch size."""

    pairs: tuple[InferenceCostPair, ...]


def measure_pair(
    baseline: nn.Module, pruned: nn.Module, inputs: object, **settings: Any
) -> InferenceCostPair:
    """Return the cost of both networks; see `measure_inference_cost` for the settings."""
    return InferenceCostPair(
        baseline=measure_inference_cost(baseline, inputs, **settings),
        pruned=measure_inference_cost(pruned, inputs, **settings),
    )


def measure_inference_cost(
    model: nn.Module,
    inputs: object,
    *,
    batch_size: int = 1,
    watts_per_core: float = 15.0,
    device_watts: float = 300.0,
    seconds: float = 0.15,
) -> CostOf1000:
    """Return what 1,000 examples cost.

    The energy is that of the processor package where the system tells it (RAPL); else processor
    seconds times stated watts; on a GPU wall-clock seconds times stated watts. The first holds
    what other programs used at that time, the others leave out memory and power supply: all are
    estimates, better for comparing two networks than as absolute numbers.

    Args:
        model: Run in evaluation mode; not changed.
        inputs: Examples, repeated or cut to `batch_size`.
        batch_size: Examples a call.
        watts_per_core: Stated power of a busy processor core.
        device_watts: Stated power of a busy GPU.
        seconds: How long is measured, five calls at least.

    Example:
        >>> found = measure_inference_cost(nn.Linear(2, 2), torch.zeros(1, 2), seconds=0.01)
        >>> found.energy_wh_per_1000 > 0, found.peak_bytes
        (True, 32)
    """
    batch, device = resized(inputs_of(inputs, model), batch_size), modules.device_of(model)
    with modules.untouched(model), torch.inference_mode():
        for _ in range(WARM_UP):
            _call(model, batch, device)
        peak = _peak(model, batch, device)
        energy, times = _rapl(), list[float]()
        wall, processor = time.perf_counter(), time.process_time()
        while len(times) < MIN_CALLS or time.perf_counter() - wall < seconds:
            began = time.perf_counter()
            _call(model, batch, device)
            times.append(time.perf_counter() - began)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    after = _rapl()
    scale = 1000 / (len(times) * batch_size)
    if device.type != "cpu":
        joules, method = wall * device_watts, f"time x {device_watts:g} W, stated"
    elif energy is not None and after is not None and after > energy:
        joules, method = (after - energy) * 1e-6, "RAPL, whole processor package"
    else:
        joules = processor * watts_per_core
        method = f"processor time x {watts_per_core:g} W a core, stated"
    return CostOf1000(
        device=str(device),
        batch_size=batch_size,
        seconds_per_1000=statistics.median(times) * 1000 / batch_size,
        processor_seconds_per_1000=processor * scale,
        peak_bytes=peak,
        energy_wh_per_1000=joules * scale / JOULES_PER_WH,
        energy_method=method,
    )


def _call(model: nn.Module, batch: Any, device: torch.device) -> None:
    modules.call_once(model, batch)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _rapl() -> int | None:
    try:
        return int(RAPL.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _peak(model: nn.Module, batch: Any, device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        _call(model, batch, device)
        return int(torch.cuda.max_memory_allocated(device))
    weights: dict[int, int] = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
               for t in (*model.parameters(), *model.buffers())}  # fmt: skip
    live = _Live()
    with live:
        modules.call_once(model, batch)
    return sum(weights.values()) + live.peak


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operations made and that are still alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: object, args: Any = (), kwargs: Any = None
    ) -> object:
        made = func(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in modules.tensors((args, kwargs or {}))}
        for tensor in modules.tensors(made):
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in given or key in self._seen:
                continue
            self._seen.add(key)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key, storage.nbytes())
        return made

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size
