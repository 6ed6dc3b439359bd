"""How a pass-through builds the output of a unit, and what only the unit itself can provide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from srinit.units.facts import Facts
from srinit.units.rule import Stream, follow
from srinit.units.trace import Call, Value

Path = tuple[str | int, ...]


def structure_of(facts: Facts, call: Call, stream: Stream) -> Any:
    """Return how the output of a call is built from its arguments; see `PassThrough`.

    The stream's end becomes the stream's start; other tensors become the argument they are, or
    the argument that a skip path leads from; the rest becomes None.
    """
    sources = {value: path for path, value in reversed(call.inputs)}
    sources[stream.sink] = stream.source_path
    for _, value in call.outputs:
        if value not in sources and (path := _own_stream(facts, call, value)) is not None:
            sources[value] = path
    return _filled(call.output, {value: {"argument": list(p)} for value, p in sources.items()})


def any_structure(call: Call) -> Any:
    """Return an output structure for a module whose result nobody needs any more."""
    path = list(call.inputs[0][0]) if call.inputs else None
    leaf = {"value": None} if path is None else {"argument": path}
    return _filled(call.output, {value: leaf for _, value in call.outputs})


def zero_structure(facts: Facts, call: Call) -> Any | None:
    """Return an output structure of zeros, or None where no argument has the output's shape."""
    shapes = {facts.trace.shapes[value]: path for path, value in reversed(call.inputs)}
    leaves: dict[int, Any] = {}
    for _, value in call.outputs:
        shape = facts.trace.shapes[value]
        if shape in shapes:
            leaves[value] = {"zeros": list(shapes[shape])}
    first = call.outputs[0][1] if call.outputs else None
    return _filled(call.output, leaves) if first in leaves else None


def _filled(tree: Any, leaves: Mapping[int, Any]) -> Any:
    if isinstance(tree, Value):
        return leaves.get(tree.number, {"value": None})
    if isinstance(tree, dict):
        items = {key: _filled(value, leaves) for key, value in tree["items"].items()}
        return {"dict": items, "class": tree["class"]}
    if isinstance(tree, tuple | list):
        kind = "tuple" if isinstance(tree, tuple) else "list"
        return {kind: [_filled(value, leaves) for value in tree]}
    return {"value": tree if isinstance(tree, str | int | float | bool | None) else None}


def _own_stream(facts: Facts, call: Call, value: int) -> Path | None:
    trace = facts.trace
    for path, source in call.inputs:
        same = trace.shapes[source] == trace.shapes[value]
        same = same and trace.dtypes[source] == trace.dtypes[value]
        if same and follow(trace, call, source).get(value) is not None:
            return path
    return None


def provided(facts: Facts, call: Call, structure: Any, sink: int) -> str:
    """Return what a call makes that later parts use and no pass-through could give; "" if nothing.

    That is an output which no argument stands for, or a value that leaves through an attribute.
    """
    from_arguments = dict(_pairs(call.output, structure))
    for index in range(call.start, call.end):
        for value in facts.trace.ops[index].outputs:
            if value == sink or from_arguments.get(value):
                continue
            if any(reader >= call.end for reader in facts.readers(value)):
                shape = "x".join(map(str, facts.trace.shapes[value])) or "one number"
                return f"a value of shape {shape}"
    return ""


def _pairs(tree: Any, structure: Any) -> list[tuple[int, bool]]:
    """Return for every recorded tensor of an output whether an argument stands for it."""
    if isinstance(tree, Value):
        return [(tree.number, "argument" in structure)]
    if isinstance(tree, dict):
        pairs = [_pairs(value, structure["dict"][key]) for key, value in tree["items"].items()]
        return [pair for part in pairs for pair in part]
    if isinstance(tree, tuple | list):
        parts = structure.get("tuple", structure.get("list", ()))
        return [pair for one, other in zip(tree, parts, strict=True) for pair in _pairs(one, other)]
    return []
