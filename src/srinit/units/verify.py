"""Proves units: the network runs without them and keeps structure, shapes, dtypes, finiteness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.recording import locate, within
from srinit.rng import isolated_rng, reseed
from srinit.units.bypass import PassThroughFor, RewriteCache, bypassed, gone_from
from srinit.units.records import Unit

SINGLY = 6  # up to so many units are tried one by one; more are tried in groups first


def run(model: nn.Module, inputs: Any, *, seed: int = 0) -> Any:
    """Return the output of a model in evaluation mode, its random choices seeded."""
    with modules.untouched(model, hooks=True), isolated_rng(seed), torch.no_grad():
        return modules.call(model, inputs)


def difference(expected: object, found: object) -> str:
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
    rewrites: RewriteCache | None = None,
) -> dict[str, str]:
    """Return the units without which the network fails, with what went wrong.

    Few units are tried one by one. Of many, all and every second one are taken out together,
    and one by one only if that fails.
    """
    made = RewriteCache() if rewrites is None else rewrites

    def problem(group: list[Unit]) -> str:
        try:
            with (
                bypassed(model, group, passthrough=passthrough, rewrites=made),
                _counted(model, _whole(units.values(), without=group)) as calls,
            ):
                reseed(0)
                found = modules.call(model, inputs)
        except Exception as error:  # the model's own code may fail in any way
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return _uncalled(group, calls) or difference(expected, found)

    every = list(units.values())
    with modules.eval_mode(model), isolated_rng(), torch.no_grad():
        groups = (every, every[::2], every[1::2])
        if len(every) > SINGLY and not any(problem(group) for group in groups):
            return {}
        failed = {unit.name: problem([unit]) for unit in every}
    return {name: text for name, text in failed.items() if text}


def _whole(units: Iterable[Unit], *, without: Iterable[Unit]) -> list[str]:
    """Return the units that are modules, those left out of whose work is left."""
    gone = [part for unit in without for part in (*gone_from(unit), *unit.also)]
    inner = {unit.name for unit in units if any(within(unit.name, part) for part in gone)}
    asked = {unit.name for unit in without}
    return [
        unit.name
        for unit in units
        if unit.how != "branch" and (unit.name in asked or unit.name not in inner)
    ]


@contextmanager
def _counted(model: nn.Module, names: Iterable[str]) -> Iterator[Counter[str]]:
    """Count for a while how often what stands at these names is called."""
    calls: Counter[str] = Counter(dict.fromkeys(names, 0))
    places = {name: vars(model.get_submodule(name)) for name in calls}
    before = {name: place.get("forward") for name, place in places.items()}
    for name, place in places.items():
        place["forward"] = _counting(name, model.get_submodule(name).forward, calls)
    try:
        yield calls
    finally:
        for name, place in reversed(places.items()):
            place.pop("forward", None)
            if before[name] is not None:
                place["forward"] = before[name]


def _counting(name: str, forward: Callable[..., Any], calls: Counter[str]) -> Callable[..., Any]:
    def counted(*args: object, **kwargs: object) -> Any:
        calls[name] += 1
        return forward(*args, **kwargs)

    return counted


def _uncalled(group: Iterable[Unit], calls: Counter[str]) -> str:
    """Return what no longer runs; for units out of action that is what took their places."""
    gone = {unit.name for unit in group}
    for name, times in calls.items():
        if not times and name in gone:
            return "nothing changes: something besides its parent module holds it, such as a list"
        if not times:
            return f"{name} is no longer called"
    return ""
