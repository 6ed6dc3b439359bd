"""Running a model again from the middle, without a tracer and without computing the front again.

One recorded forward keeps the outputs of the modules that are finished when a unit begins. In a
replay those modules hand back what they are known to give, so that only what comes from the unit
on is computed. The model's own code runs as it is: branches, loops and functional calls between
modules included, which is why this works where no tracer does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from srinit import modules
from srinit.arguments import copied
from srinit.engine.groups import Shapes, shapes_of
from srinit.errors import ModelError

Key = tuple[int, int]  # module number, how many-th call of it
# Called in place of a unit: (the unit's own forward, *args, **kwargs).
ReplacementForward = Callable[..., Any]


@dataclass
class _Span:
    """One call of a module in a recorded forward, in ticks of the recorder's clock."""

    key: Key
    start: int
    end: int
    output: Any = None
    versions: tuple[int, ...] = ()
    keeps: bool = True  # a copy of the output can be kept


@dataclass
class _Unit:
    """What a replay from one unit needs."""

    number: int
    skips: frozenset[Key] = frozenset()
    before: int = 0  # calls that had ended when it was first called
    shapes: Shapes | None = None


class _State(threading.local):
    """What one thread is doing; several may replay at the same time."""

    mode: str = "off"
    unit: _Unit | None = None
    replacement: ReplacementForward | None = None

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}  # calls so far, by module number


@dataclass
class Replayer:
    """Records a forward of `model` and replays it from any of `units`.

    `model` is the scan's own copy: the `forward` of its modules is wrapped for good. Several
    threads may replay at the same time; a recording needs the model to itself.

    Args:
        model: The copy.
        units: Names of the modules from which to replay.
    """

    model: nn.Module
    units: Sequence[str]
    _state: _State = field(default_factory=_State)
    _modules: list[nn.Module] = field(default_factory=list)
    _names: list[str] = field(default_factory=list)
    _units: dict[str, _Unit] = field(default_factory=dict)
    _clock: int = 0
    _spans: list[_Span] = field(default_factory=list)
    _keep: frozenset[Key] | None = None  # None: keep everything (the first recording)
    _cloned: frozenset[Key] = frozenset()  # outputs that later code changes in place
    _cache: dict[Key, Any] = field(default_factory=dict)
    _order: list[Key] = field(default_factory=list)  # calls of the first recording, as they ended
    _size: int = 0  # examples in the recording that learns

    def __post_init__(self) -> None:
        inside = self._inside_units()
        for name, module in self.model.named_modules():
            if name and name not in inside and not isinstance(module, torch.jit.ScriptModule):
                self._wrap(module)
                self._names.append(name)
        for name in self.units:
            module = self.model.get_submodule(name)
            number = next((i for i, wrapped in enumerate(self._modules) if wrapped is module), None)
            if number is not None:
                self._units[name] = _Unit(number)

    def _inside_units(self) -> set[str]:
        """Return the modules below units that hold no other unit: never resumed, not kept."""
        names = [name for name, _ in self.model.named_modules(remove_duplicate=False)]
        innermost = [
            unit
            for unit in self.units
            if not any(other.startswith(f"{unit}.") for other in self.units)
        ]
        return {name for name in names if any(name.startswith(f"{unit}.") for unit in innermost)}

    def _wrap(self, module: nn.Module) -> None:
        number, forward = len(self._modules), module.forward
        self._modules.append(module)

        def wrapped(*args: object, **kwargs: object) -> Any:
            state = self._state
            if state.mode == "off":
                return forward(*args, **kwargs)
            key = (number, state.seen.get(number, 0))
            state.seen[number] = key[1] + 1
            if state.mode == "record":
                return self._record(key, forward, args, kwargs)
            unit = state.unit
            if unit is not None and key in unit.skips:
                return self._kept(key, self._cache[key])
            if unit is not None and state.replacement is not None and number == unit.number:
                return state.replacement(forward, *args, **kwargs)
            return forward(*args, **kwargs)

        module.forward = wrapped

    def _record(self, key: Key, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        start = self._tick()
        given = shapes_of((args, kwargs)) if self._keep is None else ()  # the call may fill them
        output = forward(*args, **kwargs)
        span = _Span(key, start, self._tick())
        self._spans.append(span)
        if self._keep is None:
            span.output, span.versions = output, _versions(output)
            span.keeps = _can_keep(output)
            for unit in self._units.values():
                if (unit.number, 0) == key:
                    unit.shapes = Shapes(self._size, given, shapes_of(output))
        elif key in self._keep:
            self._cache[key] = self._kept(key, output)
        return output

    def _kept(self, key: Key, output: object) -> Any:
        """Return an output that later code may change without changing what is kept of it."""
        return copied(output, self.model, tensors=key in self._cloned)

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

    @contextmanager
    def _running(
        self, mode: str, unit: _Unit | None = None, replacement: ReplacementForward | None = None
    ) -> Iterator[None]:
        state = self._state
        state.mode, state.unit, state.replacement, state.seen = mode, unit, replacement, {}
        try:
            yield
        finally:
            state.mode, state.unit, state.replacement = "off", None, None

    def learn(self, inputs: Any) -> Any:
        """Return the output for `inputs`, and note what each unit's replay needs.

        Call it, outside of inference mode, before `record`.
        """
        self._keep, self._cache = None, {}
        self._size = modules.batch_size(inputs)
        self._clock, self._spans = 0, []
        with torch.no_grad(), self._running("record"):
            output = modules.call(self.model, inputs)
            spans = self._spans
        self._order = [span.key for span in spans]
        self._cloned = frozenset(
            span.key for span in spans if _versions(span.output) != span.versions
        )
        for unit in self._units.values():
            starts = [span.start for span in spans if span.key[0] == unit.number]
            unit.skips = _finished_before(spans, min(starts)) if starts else frozenset()
            unit.before = sum(span.end < min(starts) for span in spans) if starts else 0
        called = {span.key[0] for span in spans}
        self._units = {n: unit for n, unit in self._units.items() if unit.number in called}
        self._keep = frozenset(key for unit in self._units.values() for key in unit.skips)
        return output

    @property
    def known(self) -> frozenset[str]:
        """Units that were called when `learn` ran, and can be replayed from."""
        return frozenset(self._units)

    def skipped(self, unit: str) -> frozenset[str]:
        """Return the modules that a replay from a unit does not run again, but for their insides.

        As `learn` found; the insides of a module that is skipped are skipped with it.
        """
        return frozenset(self._names[number] for number, _ in self._units[unit].skips)

    def order(self, unit: str) -> int:
        """Return how many calls had ended, when `learn` ran, before a unit was first called."""
        return self._units[unit].before

    def shapes(self, unit: str) -> Shapes | None:
        """Return the shapes of a unit's first call when `learn` ran last."""
        return self._units[unit].shapes if unit in self._units else None

    def record(self, inputs: Any) -> tuple[Any, bool]:
        """Return the output for `inputs`, and whether the calls were those of `learn`.

        What replays need is kept until the next recording.
        """
        self._cache = {}
        self._clock, self._spans = 0, []
        with self._running("record"):
            output = modules.call(self.model, inputs)
            same = [span.key for span in self._spans] == self._order
        return output, same

    def replay(self, unit: str, inputs: Any, replacement: ReplacementForward | None) -> object:
        """Return the output for the recorded `inputs`, with `replacement` in place of `unit`."""
        with self._running("replay", self._units[unit], replacement):
            return modules.call(self.model, inputs)

    def whole(self, unit: str, inputs: Any, replacement: ReplacementForward | None) -> object:
        """Return the output for any `inputs`, from the start, `replacement` in place of `unit`."""
        with self._running("replay", _Unit(self._units[unit].number), replacement):
            return modules.call(self.model, inputs)

    def forget(self) -> None:
        """Free what was recorded."""
        self._cache = {}


def _finished_before(spans: Sequence[_Span], start: int) -> frozenset[Key]:
    """Return the outermost calls that ended before `start`: their insides need no record.

    A call whose output cannot be kept is made again in every replay.
    """
    before = [span for span in spans if span.end < start and span.keeps]
    outermost: list[_Span] = []
    reach = start
    for span in sorted(before, key=lambda span: -span.end):
        if span.end < reach:
            outermost.append(span)
            reach = span.start
    return frozenset(span.key for span in outermost)


def _can_keep(output: object) -> bool:
    try:
        copied(output, tensors=False)
    except ModelError:
        return False
    return True


def _versions(output: object) -> tuple[int, ...]:
    """Return how often each tensor of `output` has been changed in place."""
    found = (leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor))
    return tuple(tensor._version for tensor in found if not tensor.is_inference())
