"""One eager forward, recorded: which operation made which value, inside which module call.

A dispatch mode sees the flat graph of operations of any model, also of those that no tracer
reads; module scopes come from wrapped `forward` methods, since hooks do not fire where a parent
calls `layer.forward(...)` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from srinit import modules
from srinit.rng import isolated_rng

Path = tuple[str | int, ...]  # where a tensor sits in nested arguments or outputs


@dataclass(slots=True)
class Op:
    """One operation: its name, and the values it read and made."""

    name: str  # e.g. "aten.add.Tensor"
    inputs: tuple[int, ...]  # values read, parameters left out
    outputs: tuple[int, ...]
    params: tuple[int, ...]  # ids of the parameters and buffers read
    flops: int

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
class Value:
    """Stands for a tensor in a recorded structure."""

    number: int


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

    def calls_of(self, name: str) -> list[Call]:
        """Return the calls of one module."""
        return [call for call in self.calls if call.name == name]

    def flops(self, call: Call) -> int:
        """Return the FLOPs of a call, per example."""
        return sum(op.flops for op in self.ops[call.start : call.end]) // self.batch

    def descends(self, value: int, ancestor: int) -> bool:
        """Tell whether `value` was computed from `ancestor`."""
        limit = self.maker[ancestor]
        waiting, seen = [value], set()
        while waiting:
            current = waiting.pop()
            made_by = self.maker[current]
            if made_by is None or current in seen or (limit is not None and made_by <= limit):
                continue
            seen.add(current)
            for source in self.ops[made_by].inputs:
                if source == ancestor:
                    return True
                waiting.append(source)
        return False


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Numbers every tensor that comes by; an operation in place makes a new value."""

    def __init__(self, params: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace()
        self.params = params
        self.numbers: dict[int, int] = {}
        self.alive: list[Tensor] = []  # ids stay unique as long as the tensors live
        self.is_over = False

    def number(self, tensor: Tensor) -> int:
        """Return the value a tensor holds now."""
        if id(tensor) not in self.numbers:
            self._new(tensor, None)
        return self.numbers[id(tensor)]

    def _new(self, tensor: Tensor, made_by: int | None) -> int:
        value = len(self.trace.shapes)
        self.trace.shapes.append(tuple(tensor.shape))
        self.trace.dtypes.append(tensor.dtype)
        self.trace.maker.append(made_by)
        self.numbers[id(tensor)] = value
        self.alive.append(tensor)
        return value

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        read = list(modules.tensors((args, kwargs)))
        inputs = tuple(self.number(t) for t in read if id(t) not in self.params)
        params = tuple(id(t) for t in read if id(t) in self.params)
        result = func(*args, **kwargs)
        index = len(self.trace.ops)
        outputs = []
        for tensor in modules.tensors(result):
            if id(tensor) in self.params:
                continue
            outputs.append(self._new(tensor, index))
        counter = flop_registry.get(func.overloadpacket)
        flops = counter(*args, **kwargs, out_val=result) if counter is not None else 0
        self.trace.ops.append(Op(str(func), inputs, tuple(outputs), params, int(flops)))
        for value in inputs:
            self.trace.readers.setdefault(value, []).append(index)
        return result


def record(model: nn.Module, inputs: Any, *, seed: int = 0) -> Trace:
    """Return the trace of one forward in evaluation mode; the model is left as it was.

    Args:
        model: Any module.
        inputs: What it takes; a batch of two tells the batch dimension from the others.
        seed: Of models whose forward is random.
    """
    named = list(model.named_modules(remove_duplicate=True))
    own = [*model.parameters(), *model.buffers()]
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
            output = modules.call(model, inputs)
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
    def noted(*args: Any, **kwargs: Any) -> Any:
        if recorder.is_over:  # the model kept this function
            return forward(*args, **kwargs)
        trace = recorder.trace
        parent = stack[-1].number if stack else None
        call = Call(name, len(trace.calls), parent, start=len(trace.ops))
        trace.calls.append(call)
        for path, given in walk((args, kwargs)):
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
        call.outputs = [(p, recorder.number(t)) for p, t in locate(result)]
        call.output = _structure(result, recorder)
        return result

    return noted


def walk(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
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


def locate(tree: Any) -> Iterator[tuple[Path, Tensor]]:
    """Yield the tensors of nested tuples, lists, dicts and dataclasses with where they sit."""
    for path, value in walk(tree):
        if isinstance(value, Tensor):
            yield path, value


def is_record(tree: Any) -> bool:
    """Tell whether something is a dataclass or a named tuple, and no mapping."""
    if isinstance(tree, type) or hasattr(tree, "items"):
        return False
    named = isinstance(tree, tuple) and hasattr(tree, "_fields")
    return named or hasattr(tree, "__dataclass_fields__")


def record_fields(tree: Any) -> list[str]:
    """Return the names of the fields of a dataclass or named tuple."""
    return list(getattr(tree, "_fields", None) or tree.__dataclass_fields__)


def class_of(tree: Any) -> str:
    """Return the class of a value as "module:name"."""
    return f"{type(tree).__module__}:{type(tree).__qualname__}"


def find_tensors(tree: Any) -> list[Tensor]:
    """Return the tensors of a model's output."""
    return [tensor for _, tensor in locate(tree)]


def _structure(tree: Any, recorder: _Recorder) -> Any:
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
