"""One eager forward, recorded: which operation made which value, inside which module call.

A dispatch mode sees the flat graph of operations of any model, also of those that no tracer
reads; module scopes come from wrapped `forward` methods, since hooks do not fire where a parent
calls `layer.forward(...)` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from srinit import modules
from srinit.arguments import copied
from srinit.flops import counter_of, uncounted
from srinit.rng import isolated_rng

REPLAYED = frozenset(["aten._softmax.default", "aten.clone.default", "aten._unsafe_view.default"])
"""Operations that a gate may consist of, besides those on single elements and views."""
Path = tuple[str | int, ...]  # where a tensor sits in nested arguments or outputs


@dataclass(frozen=True, slots=True)
class Value:
    """Stands for a tensor in a recorded structure."""

    number: int


@dataclass(frozen=True, slots=True)
class Weight:
    """Stands for a parameter or buffer in recorded arguments."""

    number: int  # its id


@dataclass(frozen=True, slots=True)
class Again:
    """An operation with its arguments, tensors replaced by `Value` and `Weight`."""

    function: Any
    args: Any
    kwargs: Any


@dataclass(slots=True)
class Op:
    """One operation: its name, and the values it read and made."""

    name: str  # e.g. "aten.add.Tensor"
    inputs: tuple[int, ...]  # values read, parameters left out
    outputs: tuple[int, ...]
    params: tuple[int, ...]  # ids of the parameters and buffers read
    flops: int
    again: Again | None = None  # how to compute it again; None where that is never asked for

    @property
    def uses_params(self) -> bool:
        """Whether it reads a parameter or buffer."""
        return bool(self.params)


@dataclass(slots=True)
class Call:
    """One call of one module."""

    name: str
    number: int  # of all calls, in the order in which they began
    parent: int | None
    start: int  # first operation
    end: int = 0  # one past the last
    inputs: list[tuple[Path, int]] = field(default_factory=list)
    outputs: list[tuple[Path, int]] = field(default_factory=list)
    output: Any = None  # the structure, tensors replaced by `Value`
    plain: list[tuple[Path, Any]] = field(default_factory=list)  # numbers, texts among its inputs
    records: list[tuple[Path, str]] = field(default_factory=list)  # dataclasses, named tuples


@dataclass(frozen=True, slots=True)
class Mix:
    """A sum of a branch and what it starts from, with weights that add up to one."""

    keep: Any  # what is left of it without its branch
    branch: frozenset[Any]  # values of the branch that it mixes in


@dataclass(slots=True)
class Trace:
    """What happened in one forward."""

    ops: list[Op] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)  # by value
    dtypes: list[torch.dtype] = field(default_factory=list)
    maker: list[int | None] = field(default_factory=list)  # operation that made a value
    readers: dict[int, list[int]] = field(default_factory=dict)
    final: list[int] = field(default_factory=list)  # values the model returned
    batch: int = 1
    result: Any = None  # what the model returned
    not_counted: dict[str, int] = field(default_factory=dict)  # how often what has no rule ran
    foreign: int = 0  # parameters that were read and are not the model's
    mixes: dict[int, Mix] = field(default_factory=dict)  # by operation

    def calls_of(self, name: str) -> list[Call]:
        """Return the calls of one module."""
        return [call for call in self.calls if call.name == name]

    def flops(self, call: Call) -> int:
        """Return the FLOPs of a call, per example."""
        return sum(op.flops for op in self.ops[call.start : call.end]) // self.batch


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Numbers every tensor that comes by; an operation in place makes a new value."""

    def __init__(self, params: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.params = params
        self.numbers: dict[int, int] = {}
        self.alive: dict[int, ref[Tensor]] = {}  # an id is a tensor's as long as it lives
        self.known: dict[int, tuple[str, Any, bool]] = {}  # by id: name, counter, is elementwise
        self.of_weights: set[int] = set()  # values made from parameters and buffers alone
        self.flops: dict[Any, int] = {}  # of operations on tensors of the same shapes
        self.is_over = False

    def number(self, tensor: Tensor) -> int:
        """Return the value a tensor holds now."""
        if id(tensor) not in self.numbers:
            self.trace.foreign += isinstance(tensor, nn.Parameter)
            self._new(tensor, None)
        return self.numbers[id(tensor)]

    def _new(self, tensor: Tensor, made_by: int | None) -> int:
        value = len(self.trace.shapes)
        self.trace.shapes.append(tuple(tensor.shape))
        self.trace.dtypes.append(tensor.dtype)
        self.trace.maker.append(made_by)
        self.numbers[id(tensor)] = value
        self.alive[id(tensor)] = ref(tensor, partial(self._gone, id(tensor)))
        return value

    def _gone(self, number: int, dead: ref[Tensor]) -> None:
        if self.alive.get(number) is dead:
            del self.alive[number], self.numbers[number]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs, params = [], []
        for tensor in _tensors_in([*args, *kwargs.values()]):
            if id(tensor) in self.params:
                params.append(id(tensor))
            else:
                inputs.append(self.number(tensor))
        result = func(*args, **kwargs)
        index = len(self.trace.ops)
        made = [t for t in _tensors_in([result]) if id(t) not in self.params]
        again = self._again(func, args, kwargs, inputs, params)  # before an input gets a new number
        outputs = tuple(self._new(tensor, index) for tensor in made)
        name, counter, _ = self._known(func)
        flops = 0 if counter is None else self._flops(name, counter, args, kwargs, result)
        rest = uncounted(func, [*args, *kwargs.values()]) if counter is None else ""
        if rest:
            self.trace.not_counted[rest] = self.trace.not_counted.get(rest, 0) + 1
        self.trace.ops.append(Op(name, tuple(inputs), outputs, tuple(params), flops, again))
        if self._of_weights(inputs, params):
            self.of_weights.update(outputs)
        for value in inputs:
            self.trace.readers.setdefault(value, []).append(index)
        return result

    def _known(self, func: Any) -> tuple[str, Any, bool]:
        if id(func) not in self.known:
            light = torch.Tag.pointwise in func.tags or func.is_view or str(func) in REPLAYED
            self.known[id(func)] = (str(func), counter_of(func), light)
        return self.known[id(func)]

    def _again(
        self, func: object, args: object, kwargs: object, inputs: list[int], params: list[int]
    ) -> Again | None:
        """Return how to compute an operation again: one elementwise, or of weights alone."""
        if not self._of_weights(inputs, params) and not self._known(func)[2]:
            return None
        return Again(func, self._template(args), self._template(kwargs))

    def _of_weights(self, inputs: list[int], params: list[int]) -> bool:
        return bool(inputs or params) and self.of_weights.issuperset(inputs)

    def _template(self, tree: object) -> Any:
        if isinstance(tree, Tensor):
            mine = id(tree) in self.params
            return Weight(id(tree)) if mine else Value(self.number(tree))
        if isinstance(tree, dict):
            return {key: self._template(value) for key, value in tree.items()}
        if isinstance(tree, tuple | list):
            return [self._template(value) for value in tree]
        return tree

    def _flops(self, name: str, counter: Any, args: Any, kwargs: Any, result: Any) -> int:
        """Return the FLOPs of an operation, counted once for tensors of the same shapes."""
        if "attention" in name:  # may depend on values: lengths of packed sequences
            return int(counter(*args, **kwargs, out_val=result))
        key = (name, _shapes(args), _shapes(kwargs.items()), _shapes((result,)))
        if key not in self.flops:
            self.flops[key] = int(counter(*args, **kwargs, out_val=result))
        return self.flops[key]


def _tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """Return the tensors among the arguments or results of an operation."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += _tensors_in(value)
    return found


def _shapes(values: Iterable[Any]) -> tuple[Any, ...]:
    """Return arguments of an operation with shapes in the places of tensors."""
    return tuple(
        value.shape
        if isinstance(value, Tensor)
        else _shapes(value)
        if isinstance(value, tuple | list)
        else value
        for value in values
    )


def record(model: nn.Module, inputs: Any, *, seed: int = 0) -> Trace:
    """Return the trace of one forward in evaluation mode; the model is left as it was.

    Args:
        model: Any module.
        inputs: What it takes; a batch of two tells the batch dimension from the others.
        seed: Of models whose forward is random.
    """
    named = list(model.named_modules(remove_duplicate=True))
    own = [*model.parameters(), *model.buffers()]
    given = copied(dict(inputs) if isinstance(inputs, Mapping) else inputs, model)
    recorder = _Recorder({id(tensor) for tensor in own})
    recorder.trace.batch = modules.batch_size(inputs)
    stack: list[Call] = []
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # a fused kernel hides the additions
    try:
        with (
            modules.eval_mode(model),
            isolated_rng(seed),
            torch.no_grad(),
            _wrapped(named, recorder, stack),
            recorder,
        ):
            output = modules.call_once(model, given)
            recorder.trace.result = output
            recorder.trace.final = [recorder.number(t) for t in find_tensors(output)]
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        recorder.is_over = True
    return recorder.trace


@contextmanager
def _wrapped(
    named: list[tuple[str, nn.Module]], recorder: _Recorder, stack: list[Call]
) -> Iterator[None]:
    """Let every module's forward note its calls for a while."""
    missing = object()
    before = [(module, module.__dict__.get("forward", missing)) for _, module in named]
    try:
        for name, module in named:
            module.__dict__["forward"] = _noting(name, module.forward, recorder, stack)
        yield
    finally:
        for module, forward in before:
            if forward is missing:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = forward


def _noting(
    name: str, forward: Callable[..., Any], recorder: _Recorder, stack: list[Call]
) -> Callable[..., Any]:
    def noted(*args: object, **kwargs: object) -> Any:
        if recorder.is_over:  # the model kept this function
            return forward(*args, **kwargs)
        trace = recorder.trace
        parent = stack[-1].number if stack else None
        call = Call(name, len(trace.calls), parent, start=len(trace.ops))
        trace.calls.append(call)
        for path, given in _given(args, kwargs):
            if isinstance(given, Tensor):
                call.inputs.append((path, recorder.number(given)))
            elif isinstance(given, str | int | float):
                call.plain.append((path, given))
            elif is_record(given):
                call.records.append((path, class_of(given)))
        stack.append(call)
        try:
            result = forward(*args, **kwargs)
        finally:
            stack.pop()
        call.end = len(trace.ops)
        if isinstance(result, Tensor):  # most do
            call.outputs = [((), recorder.number(result))]
            call.output = Value(call.outputs[0][1])
        else:
            call.outputs = [(p, recorder.number(t)) for p, t in locate(result)]
            call.output = _structure(result, recorder)
        return result

    return noted


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Yield everything in the arguments of a call with where it sits in (args, kwargs)."""
    for kind, entries in ((0, enumerate(args)), (1, kwargs.items())):
        for key, value in entries:
            if isinstance(value, Tensor):
                yield (kind, key), value
            elif value is not None:
                yield from walk(value, (kind, key))


def walk(tree: object, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield everything in nested tuples, lists, dicts and dataclasses with where it sits."""
    yield path, tree
    entries: Iterable[tuple[Any, Any]] = ()
    if isinstance(tree, Tensor):
        return
    if isinstance(tree, dict) or hasattr(tree, "items"):
        entries = tree.items()
    elif is_record(tree):
        entries = ((key, getattr(tree, key)) for key in record_fields(tree))
    elif isinstance(tree, tuple | list):
        entries = enumerate(tree)
    for key, value in entries:
        yield from walk(value, (*path, key))


def locate(tree: object) -> Iterator[tuple[Path, Tensor]]:
    """Yield the tensors of nested tuples, lists, dicts and dataclasses with where they sit."""
    for path, value in walk(tree):
        if isinstance(value, Tensor):
            yield path, value


def is_record(tree: object) -> bool:
    """Tell whether something is a dataclass or a named tuple, and no mapping."""
    if isinstance(tree, type) or hasattr(tree, "items"):
        return False
    named = isinstance(tree, tuple) and hasattr(tree, "_fields")
    return named or hasattr(tree, "__dataclass_fields__")


def record_fields(tree: Any) -> list[str]:
    """Return the names of the fields of a dataclass or named tuple."""
    return list(getattr(tree, "_fields", None) or tree.__dataclass_fields__)


def class_of(tree: object) -> str:
    """Return the class of a value as "module:name"."""
    return f"{type(tree).__module__}:{type(tree).__qualname__}"


def find_tensors(tree: object) -> list[Tensor]:
    """Return the tensors of a model's output."""
    return [tensor for _, tensor in locate(tree)]


def _structure(tree: object, recorder: _Recorder) -> Any:
    if isinstance(tree, Tensor):
        return Value(recorder.number(tree))
    if isinstance(tree, dict) or hasattr(tree, "items"):
        items = {key: _structure(value, recorder) for key, value in tree.items()}
        return {"class": class_of(tree), "items": items}
    if is_record(tree):
        parts = {key: _structure(getattr(tree, key), recorder) for key in record_fields(tree)}
        return {"record": class_of(tree), "items": parts}
    if isinstance(tree, tuple | list):
        return (
            type(tree)(_structure(v, recorder) for v in tree)
            if type(tree) in (tuple, list)
            else tuple(_structure(v, recorder) for v in tree)
        )
    return tree
