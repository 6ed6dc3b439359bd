"""How a pass-through builds the output of a unit, and what only the unit itself can provide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from srinit.recording import Call, TraceIndex, Value
from srinit.units.rule import Stream, follow

Path = tuple[str | int, ...]


def structure_of(traced: TraceIndex, call: Call, stream: Stream) -> Any:
    """Return how the output of a call is built from its arguments; see `PassThrough`.

    The stream's end becomes the stream's start; other tensors become the argument they are, or
    the argument that a skip path leads from; the rest becomes None.
    """
    sources = {value: path for path, value in reversed(call.inputs)}
    sources[stream.sink] = stream.source_path
    for _, value in call.outputs:
        if value not in sources and (path := _own_stream(traced, call, value)) is not None:
            sources[value] = path
    leaves = {value: {"argument": list(p)} for value, p in sources.items()}
    return _filled(call.output, leaves, call)


def any_structure(call: Call) -> Any:
    """Return an output structure for a module whose result nobody needs any more."""
    path = list(call.inputs[0][0]) if call.inputs else None
    leaf = {"value": None} if path is None else {"argument": path}
    return _filled(call.output, {value: leaf for _, value in call.outputs}, call)


def zero_structure(traced: TraceIndex, call: Call) -> Any | None:
    """Return an output structure of zeros, or None where no argument has the output's shape."""
    shapes = {traced.trace.shapes[value]: path for path, value in reversed(call.inputs)}
    leaves: dict[int, Any] = {}
    for _, value in call.outputs:
        shape = traced.trace.shapes[value]
        if shape in shapes:
            leaves[value] = {"zeros": list(shapes[shape])}
    first = call.outputs[0][1] if call.outputs else None
    return _filled(call.output, leaves, call) if first in leaves else None


def _filled(tree: object, leaves: Mapping[int, Any], call: Call, path: Path = ()) -> Any:
    if isinstance(tree, Value):
        return leaves.get(tree.number, {"value": None})
    if isinstance(tree, dict):
        items = {
            key: _filled(value, leaves, call, (*path, key)) for key, value in tree["items"].items()
        }
        if "record" not in tree:
            return {"dict": items, "class": tree["class"]}
        like = [list(p) for p, name in call.records if name == tree["record"]]
        return {"record": items, "like": like[0] if like else None}
    if isinstance(tree, tuple | list):
        kind = "tuple" if isinstance(tree, tuple) else "list"
        return {kind: [_filled(v, leaves, call, (*path, i)) for i, v in enumerate(tree)]}
    return _constant(tree, call, path)


def _constant(value: object, call: Call, path: Path) -> Any:
    """Return the argument that a number or text of an output is, or its value.

    That is the argument at the same place, else one of the same value; a count or a length that
    was written down as a value would be wrong for other inputs.
    """
    if not isinstance(value, str | int | float | bool):
        return {"value": None}
    given = [(p, other) for p, other in call.plain if type(other) is type(value)]
    there = [p for p, _ in given if path and path in (p[1:], p[2:])]
    equal = [p for p, other in given if other == value and is_number(value)]
    for found in (*there, *equal):
        return {"argument": list(found)}
    return {"value": value}


def is_number(value: object) -> bool:
    """Tell whether a value is a whole or floating-point number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _own_stream(traced: TraceIndex, call: Call, value: int) -> Path | None:
    trace = traced.trace
    for path, source in call.inputs:
        same = trace.shapes[source] == trace.shapes[value]
        same = same and trace.dtypes[source] == trace.dtypes[value]
        if same and follow(trace, call, source).get(value) is not None:
            return path
    return None


def provided(traced: TraceIndex, call: Call, structure: object, sink: int) -> str:
    """Return what a call makes that later parts use and no pass-through could give; "" if nothing.

    That is an output which no argument stands for, or a value that leaves through an attribute.
    Whether anybody uses a number that it returns cannot be seen; such numbers count as used.
    """
    if number := next(_own_numbers(call.output, structure), None):
        return f"a number ({number})"
    from_arguments = dict(_pairs(call.output, structure))
    for index in range(call.start, call.end):
        for value in traced.trace.ops[index].outputs:
            if value == sink or from_arguments.get(value):
                continue
            if any(reader >= call.end for reader in traced.readers(value)):
                shape = "x".join(map(str, traced.trace.shapes[value])) or "one number"
                return f"a value of shape {shape}"
    return ""


def _pairs(tree: Any, structure: Any) -> list[tuple[int, bool]]:
    """Return for every recorded tensor of an output whether an argument stands for it."""
    if isinstance(tree, Value):
        return [(tree.number, "argument" in structure)]
    return [pair for one, other in _entries(tree, structure) for pair in _pairs(one, other)]


def _own_numbers(tree: Any, structure: Any) -> Iterator[int | float]:
    """Yield the numbers of an output, other than 0, that are no argument."""
    if is_number(tree) and tree and "value" in structure:
        yield tree
    for one, other in _entries(tree, structure):
        yield from _own_numbers(one, other)


def _entries(tree: Any, structure: Any) -> list[tuple[Any, Any]]:
    """Return the entries of a recorded output, each with how it is built."""
    if isinstance(tree, dict):
        parts = structure["record" if "record" in tree else "dict"]
        return [(value, parts[key]) for key, value in tree["items"].items()]
    if isinstance(tree, tuple | list):
        return list(zip(tree, structure.get("tuple", structure.get("list", ())), strict=True))
    return []
