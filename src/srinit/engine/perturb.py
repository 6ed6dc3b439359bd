"""What draws the units: kept from batch to batch, and for whole batches at once where it can be."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import nn

from srinit import modules
from srinit.engine.batched_weights import BatchedWeights
from srinit.engine.copies import convert, inputs_for
from srinit.engine.folding import Pair
from srinit.engine.prepared import PreparedModel
from srinit.errors import DataError, ModelError, ReinitError
from srinit.padding import places_of
from srinit.records import record
from srinit.reinit import Call, Reinitializer, RuleScheme, Scheme, find_scheme
from srinit.reinit.proof import named
from srinit.rng import seed_for

REFERENCE_ROWS = 32  # examples on which `matched` matches, at most
REFERENCE_VALUES = 2048  # values of one channel that suffice for its mean and spread
KEPT_BYTES = 256 << 20  # copies of units kept between batches
KEPT_SHARE = 10  # a GPU: of its memory, one part in so many

_Key = tuple[str, tuple[int, float]]


@record
class Target:
    """One unit to measure."""

    name: str
    parts: tuple[str, ...] = ()  # submodules to draw, by names in the model; empty: the unit
    removable: bool = True


@record
class Perturbation:
    """How units are drawn again."""

    scheme: str | Scheme
    scale: float = 1.0

    @property
    def name(self) -> str:
        """Name of the scheme, for records."""
        if isinstance(self.scheme, str):
            return self.scheme
        return str(getattr(self.scheme, "__name__", type(self.scheme).__name__))


class Perturber:
    """Draws the units of a model, each in a private copy; several threads may, a unit each.

    Args:
        targets: The units, by name.
        prepared: The prepared model.
        inputs: Some examples; the first ones are what `matched` matches on.
        device: Where inputs go.
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        prepared: PreparedModel,
        inputs: Any,
        device: torch.device | str,
    ) -> None:
        self._source = prepared.source
        self._targets, self._prepared, self._device = targets, prepared, device
        self._reinitializers: dict[_Key, Reinitializer] = {}
        self._batched: dict[_Key, BatchedWeights] = {}
        self._batchable: dict[_Key, bool] = {}
        self._proven: dict[str, set[str]] = {}  # parameters that a unit is known to read
        self._perturbation: Perturbation | None = None
        self._was_prepared: set[str] = set()
        self._room = _room_on(torch.device(device))
        self._lock = threading.Lock()
        rows = min(modules.batch_size(inputs), REFERENCE_ROWS)
        self._reference = modules.tree_map(torch.clone, modules.rows_between(inputs, 0, rows))

    def prepare(self, perturbation: Perturbation, names: Iterable[str]) -> None:
        """Build what draws units for many groups at once, as far as there is room for it.

        To be called while no other thread runs a module: `torch.fx`, which reads the units for
        it, changes how every module in the process is called.
        """
        if self._perturbation != perturbation:
            self._perturbation = perturbation
            self._was_prepared.clear()
            self._reinitializers.clear()
            self._batched.clear()
        for name in names:
            if name in self._was_prepared:
                continue
            self._was_prepared.add(name)
            batched = self._new_batched(name, perturbation)
            if batched is not None and 2 * (self._batched_bytes() + batched.bytes) <= self._room:
                self._batched[_key(name, perturbation)] = batched

    def problem(self, name: str, perturbation: Perturbation) -> str:
        """Return why a unit cannot be drawn like this; empty where it can."""
        self.prepare(perturbation, [name])
        try:
            reinitializer = self.reinitializer(name, perturbation)
            reinitializer.draw(seed_for("check", name))
            self._prove(name, reinitializer)
        except ReinitError as error:
            return str(error)
        return ""

    def _prove(self, name: str, reinitializer: Reinitializer) -> None:
        """Raise unless a draw of a unit reaches what its forward pass reads."""
        proven = self._proven.setdefault(name, set())
        call = self._prepared.calls.get(name)
        left = None
        if call is not None:
            with suppress(ReinitError):  # too few examples may not tell
                left = reinitializer.prove(call, proven)
        if left is None or left:
            left = reinitializer.prove(partial(self._call_once, name), proven)
        if left:
            self._prepared.notes.setdefault(
                name, f"{len(left)} parameters have no effect on the examples: {named(left)}"
            )

    def _call_once(self, name: str, unit: nn.Module) -> None:
        """Run the model on the reference examples with another module in a unit's place."""
        inputs = inputs_for(self._prepared.replayer.model, self._reference, self._device)

        def replacement(forward: Callable[..., Any], *args: object, **kwargs: object) -> object:
            return unit(*args, **kwargs)

        self._prepared.replayer.whole(name, inputs, replacement)

    def reinitializer(self, name: str, perturbation: Perturbation) -> Reinitializer:
        """Return what draws a unit once at a time."""
        key = _key(name, perturbation)
        found = self._reinitializers.get(key)
        if found is None:
            found = self._new_reinitializer(name, perturbation, self._convert)
            with self._lock:
                self._make_room(_bytes(found.module))
                self._reinitializers[key] = found
        return found

    def batched(self, name: str, perturbation: Perturbation) -> BatchedWeights | None:
        """Return what draws a unit for many groups at once; None where there is nothing."""
        return self._batched.get(_key(name, perturbation))

    def _new_batched(self, name: str, perturbation: Perturbation) -> BatchedWeights | None:
        key = _key(name, perturbation)
        layout, call = self._prepared.layouts.get(name), self._prepared.calls.get(name)
        if self._prepared.dtype is None or not self._batchable.get(key, True):
            return None
        if layout is None or call is None:
            return None
        self._batchable[key] = False
        try:
            reinitializer = self._new_reinitializer(name, perturbation, _frozen)
            found = BatchedWeights(
                reinitializer, _inside(self._prepared.pairs, name), self._convert
            )
            size = modules.batch_size(call.args or call.kwargs)
            if size > 2 and found.agrees(layout, call, size):
                self._batchable[key] = True
                return found
        except (ReinitError, ValueError, RuntimeError, TypeError):
            pass
        return None

    def _batched_bytes(self) -> int:
        return sum(batched.bytes for batched in self._batched.values())

    def _make_room(self, needed: int) -> None:
        kept = sum(_bytes(each.module) for each in self._reinitializers.values())
        if kept + needed + 2 * self._batched_bytes() > self._room:
            self._reinitializers.clear()

    def _new_reinitializer(
        self, name: str, perturbation: Perturbation, prepare: Callable[[nn.Module], nn.Module]
    ) -> Reinitializer:
        scheme = find_scheme(perturbation.scheme)
        whole = isinstance(scheme, RuleScheme) and scheme.whole_block
        matched = isinstance(scheme, RuleScheme) and scheme.matched
        return Reinitializer(
            self._source.get_submodule(name),
            scheme=scheme,
            scale=perturbation.scale,
            parts=() if whole else _relative(self._targets[name]),
            reference=self._call_of(name) if matched and prepare != _frozen else None,
            prepare=prepare,
            local_noise=True,
        )

    def _convert(self, unit: nn.Module) -> nn.Module:
        unit = _frozen(unit)
        return unit if self._prepared.dtype is None else convert(unit, self._prepared.dtype)

    def _call_of(self, name: str) -> Call:
        """Return the arguments with which the model calls a unit on the reference examples.

        There are fewer examples where one has many positions (pixels, tokens).
        """
        found: list[Call] = []

        def spy(forward: Callable[..., Any], *args: object, **kwargs: object) -> object:
            found.append(Call(args, kwargs, places))
            return forward(*args, **kwargs)

        rows = modules.batch_size(self._reference)
        shapes = self._prepared.replayer.shapes(name)
        if shapes is not None and shapes.outputs and shapes.outputs[0] is not None:
            values = [
                math.prod(shapes.outputs[0]) / (shapes.size * c) for c in self._channels(name)
            ]
            rows = min(rows, max(math.ceil(REFERENCE_VALUES / min(values, default=1)), 2))
        few = modules.rows_between(self._reference, 0, rows)
        inputs = inputs_for(self._prepared.replayer.model, few, self._device)
        try:
            places = places_of(self._source, inputs)
            with torch.inference_mode():
                self._prepared.replayer.whole(name, inputs, spy)
        except (DataError, ModelError) as error:
            raise ReinitError(f"scheme 'matched' cannot be used here: {error}") from error
        return found[0]

    def _channels(self, name: str) -> list[int]:
        """Return the numbers of output channels of a unit's layers."""
        parameters = self._source.get_submodule(name).parameters()
        return [parameter.shape[0] for parameter in parameters if parameter.ndim > 1]


def _room_on(device: torch.device) -> int:
    """Return how many bytes copies of units may take."""
    if device.type != "cuda":
        return KEPT_BYTES
    return max(torch.cuda.get_device_properties(device).total_memory // KEPT_SHARE, KEPT_BYTES)


def _key(name: str, perturbation: Perturbation) -> _Key:
    return name, (id(find_scheme(perturbation.scheme)), perturbation.scale)


def _frozen(unit: nn.Module) -> nn.Module:
    return unit.eval().requires_grad_(False)


def _inside(pairs: Sequence[Pair], unit: str) -> list[Pair]:
    """Return the pairs below a unit, by their names in it."""
    prefix = f"{unit}."
    return [
        (one.removeprefix(prefix), other.removeprefix(prefix))
        for one, other in pairs
        if one.startswith(prefix) and other.startswith(prefix)
    ]


def _relative(target: Target) -> tuple[str, ...]:
    prefix = f"{target.name}."
    return tuple(part.removeprefix(prefix) for part in target.parts if part.startswith(prefix))


def _bytes(module: nn.Module) -> int:
    tensors = (*module.parameters(), *module.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
