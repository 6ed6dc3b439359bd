"""Proves units: the network runs without them and keeps structure, shapes, dtypes, finiteness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.rng import isolated_rng
from srinit.units.bypass import PassThroughFor, bypassed
from srinit.units.records import Unit
from srinit.units.trace import locate

SINGLY = 8  # up to so many units are tried one by one; more are tried in groups first


def run(model: nn.Module, inputs: Any, *, seed: int = 0) -> Any:
    """Return the output of a model in evaluation mode, its random choices seeded."""
    with modules.eval_mode(model), isolated_rng(seed), torch.no_grad():
        return modules.call(model, inputs)


def difference(expected: Any, found: Any) -> str:
    """Return how two outputs differ in structure, shape, dtype or finiteness; "" if they do not."""
    one, other = dict(locate(expected)), dict(locate(found))
    if type(expected) is not type(found) or one.keys() != other.keys():
        return f"the output became {type(found).__name__} with tensors at {list(other)[:4]}"
    for path, tensor in one.items():
        twin = other[path]
        if tensor.shape != twin.shape and tensor.ndim == twin.ndim and _detections(path, tensor):
            continue
        if tensor.shape != twin.shape or tensor.dtype != twin.dtype:
            return (
                f"output {path} became {tuple(twin.shape)} {twin.dtype}, "
                f"was {tuple(tensor.shape)} {tensor.dtype}"
            )
        if not twin.is_meta and bool(torch.isfinite(tensor).all() > torch.isfinite(twin).all()):
            return f"output {path} is no longer finite"
    return ""


def _detections(path: tuple[str | int, ...], tensor: Tensor) -> bool:
    """Tell whether a tensor is one of a detector's lists, whose length depends on the image."""
    return len(path) == 2 and path[1] in ("boxes", "scores", "labels", "masks", "keypoints")


def verify(
    model: nn.Module,
    inputs: Any,
    units: Mapping[str, Unit],
    expected: Any,
    *,
    passthrough: PassThroughFor | None = None,
) -> dict[str, str]:
    """Return the units without which the network fails, with what went wrong.

    Few units are tried one by one. Of many, all and every second one are taken out together,
    and one by one only if that fails.
    """

    def problem(group: list[Unit]) -> str:
        try:
            with bypassed(model, group, passthrough=passthrough):
                found = run(model, inputs)
        except Exception as error:  # the model's own code may fail in any way
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return difference(expected, found)

    every = list(units.values())
    if len(every) > SINGLY and not any(problem(g) for g in (every, every[::2], every[1::2]) if g):
        return {}
    failed = {unit.name: problem([unit]) for unit in every}
    return {name: text for name, text in failed.items() if text}
