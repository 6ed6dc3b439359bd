"""What was asked of a scan, and what has to agree for its journal to be continued."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from srinit import modules
from srinit.engine import Precision, Target
from srinit.evaluate import Scorer
from srinit.records import record
from srinit.reinit import Scheme
from srinit.units.records import UnitMap

GOAL = ("max_drop", "num_remove")  # what the units of a scan are decided against
CPU_BATCH = 64  # examples: what a small network computes then stays in the cache
GPU_BATCHES = (1024, 512, 256)  # the largest of which one forward is at most that much work:
GPU_WORK = 3e11  # FLOPs; less leaves a large GPU waiting for the next call


@record
class Settings:
    """The arguments of `measure_sensitivity` that decide what is measured.

    The section `scan` of a config gives those of the same names; here they may also be callables
    (`scheme`) or None (`half_width`: until decided, or the data ends).
    """

    scheme: str | Scheme = "auto"
    scale: float = 1.0
    draws: int | None = None
    half_width: float | None = 0.02
    confidence: float = 0.95
    max_drop: float | None = None
    best: int | None = None
    seed: int = 0
    batch_size: int  # no default: it follows from device and model, see `settings_of`
    precision: Precision = "auto"  # of the arithmetic; `precision` of the config is `widths`
    max_examples: int | None = None
    widths: str = "equal"
    num_remove: int | None = None

    def check(self) -> None:
        """Raise `ValueError` for values that make no sense."""
        problems = []
        if self.half_width is not None and not 0 < self.half_width < 1:
            problems.append(f"half_width must lie in (0, 1), not {self.half_width}")
        if not 0.5 <= self.confidence < 1:
            problems.append(f"confidence must lie in [0.5, 1), not {self.confidence}")
        if self.draws is not None and self.draws < 1:
            problems.append(f"draws must be at least 1, not {self.draws}")
        if self.scale <= 0:
            problems.append(f"scale must be positive, not {self.scale}")
        if self.batch_size < 1:
            problems.append(f"batch_size must be at least 1, not {self.batch_size}")
        if self.best is not None and self.best < 1:
            problems.append(f"best must be at least 1, not {self.best}")
        problems += self._about_deciding()
        if problems:
            raise ValueError("; ".join(problems) + ".")

    def _about_deciding(self) -> list[str]:
        if self.widths not in ("equal", "decide"):
            return [f"precision must be 'equal' or 'decide', not {self.widths!r}"]
        if self.widths == "equal":
            return [] if self.num_remove is None else ["num_remove needs precision='decide'"]
        problems = []
        if self.num_remove is None and self.max_drop is None:
            problems.append("precision='decide' needs num_remove or max_drop: what to decide")
        if self.num_remove is not None and self.num_remove < 1:
            problems.append(f"num_remove must be at least 1, not {self.num_remove}")
        if self.draws is not None or self.scheme == "paper":
            problems.append("precision='decide' needs fresh draws; leave out draws and 'paper'")
        return problems


def settings_of(
    model: nn.Module,
    units: UnitMap,
    device: torch.device | str | None,
    *,
    batch_size: int | None = None,
    **values: Any,
) -> Settings:
    """Return checked settings; the batch size follows from device and model where none is given.

    Raises:
        ValueError: A value makes no sense.
    """
    where = torch.device(modules.device_of(model) if device is None else device)
    usual = {"cpu": CPU_BATCH, "cuda": gpu_batch(units.flops)}.get(where.type, GPU_BATCHES[-1])
    settings = Settings(batch_size=batch_size or usual, **values)
    settings.check()
    return settings


def gpu_batch(flops: float) -> int:
    """Return how many examples a GPU is given at once, by the FLOPs of one.

    Example:
        >>> gpu_batch(2.5e8), gpu_batch(8e9)
        (1024, 256)
    """
    fitting = [size for size in GPU_BATCHES if size * flops <= GPU_WORK]
    return next(iter(fitting), GPU_BATCHES[-1])


def targets_of(units: UnitMap) -> tuple[Target, ...]:
    """Return what to measure, in order of execution: removable units, and locked ones."""
    removable = [
        (unit.position, Target(name=unit.name, parts=unit.parts)) for unit in units.removable
    ]
    names = {unit.name for unit in units.removable}
    locked = [
        (unit.position, Target(name=unit.name, removable=False))
        for unit in units.locked
        if unit.name not in names and unit.name
    ]
    return tuple(target for _, target in sorted([*removable, *locked], key=lambda pair: pair[0]))


def identity(
    settings: Settings,
    model: nn.Module,
    targets: tuple[Target, ...],
    num_examples: int,
    scorer: Scorer,
    device: torch.device,
) -> dict[str, Any]:
    """Return what a journal's first line holds: a resumed scan must have the same.

    What the units are decided against may be another: observations serve every target, and
    intervals hold wherever a scan stops.
    """
    values = asdict(settings)
    for name in GOAL if settings.widths == "decide" else (*GOAL, "widths"):
        del values[name]
    values["scheme"] = _name(settings.scheme)
    return {
        **values,
        "units": [target.name for target in targets],
        "num_examples": num_examples,
        "scorer": _name(scorer),
        "model": fingerprint(model),
        "device": device.type,
        "torch": torch.__version__,
    }


def _name(value: object) -> str:
    return (
        value if isinstance(value, str) else str(getattr(value, "__name__", type(value).__name__))
    )


def fingerprint(model: nn.Module) -> str:
    """Return a hash of the names, shapes and, in short, the values of all tensors of a model."""
    digest = hashlib.sha256()
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            if tensor.numel() and not tensor.is_meta and tensor.is_floating_point():
                values = tensor.detach().flatten()
                digest.update(f"{float(values.double().sum())!r}".encode())
    return digest.hexdigest()[:16]
