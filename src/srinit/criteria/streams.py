"""What flows past every unit, with it and without it, while the network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._python_dispatch import TorchDispatchMode

from srinit import modules
from srinit.arguments import copied
from srinit.criteria.options import Batches, Options
from srinit.criteria.records import UnitScore
from srinit.engine import agrees, cheap_dtypes, inputs_for, lighter_copy
from srinit.errors import DataError, ModelError, PruneError, SurgeryError
from srinit.padding import Places, places_of
from srinit.units.bypass import replacements, site_of
from srinit.units.records import Unit, UnitMap

# B batch, P positions (tokens or pixels), C channels

Seen = Callable[[str, Tensor, Tensor, Tensor | None], None]
"""Unit, stream without it and with it (B, P, C), and which places are real (B, P)."""

ADDITIONS = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)


@dataclass
class _Now:
    """What the hooks know of the batch that runs."""

    seen: Seen
    size: int = 0
    places: Places | None = None
    sums: _Sums | None = None
    problems: dict[str, str] = field(default_factory=dict)

    def note(self, name: str, without: Tensor, after: Tensor, *, first: bool) -> None:
        """Hand on both streams of a unit; other shapes say nothing."""
        if without.shape != after.shape:
            return
        one, other = (_places_last(each, self.size, first=first) for each in (without, after))
        try:
            real = None if self.places is None else self.places.among(tuple(one.shape), name)
        except DataError as error:
            self.problems[name] = str(error)
            return
        self.seen(name, one.flatten(1, -2), other.flatten(1, -2), real)


def watch_streams(
    model: nn.Module,
    units: UnitMap,
    data: Batches,
    options: Options,
    seen: Seen,
    note: str,
    *,
    is_enough: Callable[[], bool] = lambda: False,
) -> dict[str, UnitScore]:
    """Call `seen` for every unit and batch; return the units that cannot be watched.

    After every batch `is_enough` says whether the rest need not be read.

    Raises:
        DataError: Batches are padded, and nothing says where.
    """
    now = _Now(seen)
    model = _lighter(model, data, options)
    with ExitStack() as stack:
        for unit in units:
            try:
                stack.enter_context(_watched(model, unit, now))
            except SurgeryError as error:
                now.problems[unit.name] = str(error)
        for number, (inputs, target) in enumerate(data):
            inputs = inputs_for(model, inputs, options.device)
            now.size = modules.batch_size(inputs)
            now.places = places_of(model, inputs, modules.to_device(target, options.device))
            with torch.no_grad(), _adding(now):
                modules.call(model, inputs)
            if options.on_progress is not None:
                options.on_progress(number + 1, len(data), note)
            if is_enough():
                break
    return {
        name: UnitScore(unit=name, score=None, reason=reason)
        for name, reason in now.problems.items()
    }


def _lighter(model: nn.Module, data: Batches, options: Options) -> nn.Module:
    """Return a copy that is cheaper to run where there is one and scores agree."""
    batch = next(iter(data), None)
    if batch is None or options.precision == "keep":
        return model
    for dtype in cheap_dtypes(model, "auto"):
        cheap = lighter_copy(model, dtype)
        try:
            if agrees(model, cheap, batch, options.scorer, options.device):
                return cheap
        except PruneError:  # this criterion asks for no score, and nothing says how near is enough
            return model
    return model


@contextmanager
def _adding(now: _Now) -> Iterator[None]:
    """Let additions be seen, where some unit is an addend, for a while."""
    if now.sums is None:
        yield
        return
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # a fused kernel hides the additions
    try:
        with now.sums:
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for name in now.sums.forget():
            now.problems.setdefault(name, "the sum that its output goes into was not seen")


@contextmanager
def _watched(model: nn.Module, unit: Unit, now: _Now) -> Iterator[None]:
    """Compare a unit's output with that of its stand-in at every call, for a while."""
    site = site_of(unit)
    if not site:
        raise SurgeryError("the network's own forward executes the addition; nothing to watch.")
    stand_in = dict(replacements(model, unit))[site]
    module = model.get_submodule(site)
    first = any(isinstance(part, _ConvNd) for part in module.modules())
    before: list[Tensor | None] = []
    if _gives_nothing(unit) and now.sums is None:
        now.sums = _Sums()

    def enters(_: nn.Module, args: object, kwargs: object) -> None:
        # Copies: the stand-in may fill a cache, and what follows may write over the stream.
        if _gives_nothing(unit):
            before.append(None)
            return
        try:
            given, named = copied((args, kwargs), model)
            before.append(_stream(stand_in(*given, **named)))
        except ModelError as error:
            now.problems[unit.name] = str(error)
            before.append(None)

    def leaves(_: nn.Module, args: object, kwargs: object, output: object) -> None:
        without, after = before.pop(), next(modules.tensors(output))
        if without is not None:
            now.note(unit.name, without, after, first=first)
        elif _gives_nothing(unit) and now.sums is not None:
            now.sums.follow(
                unit.name, after, lambda rest, total: now.note(unit.name, rest, total, first=first)
            )

    handles = [
        module.register_forward_pre_hook(enters, with_kwargs=True),
        module.register_forward_hook(leaves, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _gives_nothing(unit: Unit) -> bool:
    """Return whether zeros take a unit's place: it is one addend, and the stream another."""
    return unit.how != "branch" and _first_key(unit.output) == "zeros"


def _first_key(structure: object) -> str:
    """Return where the first tensor of a stand-in's output comes from: "zeros" or "argument"."""
    if not isinstance(structure, Mapping):
        return ""
    for key in ("argument", "zeros"):
        if key in structure:
            return key
    for key in ("tuple", "list", "dict", "record"):
        parts = structure.get(key, ())
        for part in parts.values() if isinstance(parts, Mapping) else parts:
            if found := _first_key(part):
                return found
    return ""


class _Sums(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows outputs of units to the sums that they go into."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._followed: dict[int, tuple[Tensor, str]] = {}
        self._waiting: dict[str, Callable[[Tensor, Tensor], None]] = {}

    def follow(self, name: str, output: Tensor, found: Callable[[Tensor, Tensor], None]) -> None:
        """Call `found` with the rest of the next sum that `output` goes into, and with the sum."""
        self._followed[id(output)] = output, name
        self._waiting[name] = found

    def forget(self) -> list[str]:
        """Return the units whose sum never came; nothing is followed any more."""
        waiting = list(self._waiting)
        self._followed.clear()
        self._waiting.clear()
        return waiting

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> object:
        given = [arg for arg in args if isinstance(arg, Tensor)]
        names = {self._followed[id(t)][1] for t in given if id(t) in self._followed}
        names &= self._waiting.keys()
        if not names:
            return func(*args, **(kwargs or {}))
        others = [t for t in given if id(t) not in self._followed]
        rest = others[0] if func in ADDITIONS and len(others) == 1 and len(given) == 2 else None
        rest = None if isinstance(rest, nn.Parameter) else rest
        kept = None if rest is None else rest.clone()
        result = func(*args, **(kwargs or {}))
        if kept is not None and isinstance(result, Tensor) and kept.shape == result.shape:
            for name in names:
                self._waiting.pop(name)(kept, result)
        elif isinstance(result, Tensor) and result.is_floating_point():
            self._followed[id(result)] = result, min(names)
        return result


def _stream(output: object) -> Tensor:
    return next(modules.tensors(output))


def _places_last(stream: Tensor, size: int, *, first: bool) -> Tensor:
    """Return a stream as (B, ..., C), with places between.

    Args:
        stream: What a unit gets or gives.
        size: Examples in the batch.
        first: Channels stand in dimension 1, as convolutions put them.
    """
    stream = stream.float()
    if stream.ndim <= 2:
        rows = len(stream) // size if len(stream) % size == 0 else 0
        return stream.reshape(size if rows else len(stream), rows or 1, -1)
    if first:
        return stream.movedim(1, -1)
    if stream.ndim == 3 and stream.shape[0] != size and stream.shape[1] == size:
        return stream.transpose(0, 1)
    return stream
