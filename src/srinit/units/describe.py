"""Builds the records of units and locked units from a recorded forward."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from srinit.recording import Call, ResidualAdd, TraceIndex, within
from srinit.units.choose import CONTAINERS, Candidate
from srinit.units.records import Kind, LockedUnit, Reason, Unit
from srinit.units.structure import any_structure, structure_of, zero_structure


def whole_unit(traced: TraceIndex, candidate: Candidate, kind: Kind) -> Unit:
    """Return the record of a module that goes as a whole."""
    name, call, stream = candidate.name, candidate.call, candidate.stream
    shape = traced.trace.shapes[stream.source][1:]
    return Unit(
        name=name,
        kind=kind,
        in_shape=shape,
        out_shape=shape,
        params=traced.saved_params([name]),
        flops=traced.trace.flops(call),
        position=0,
        stage=stage_of(name, shape),
        how="delete" if in_container(traced, name) else "passthrough",
        class_name=class_name(traced, name),
        output=structure_of(traced, call, stream),
    )


def branch_unit(traced: TraceIndex, addition: ResidualAdd, name: str, kind: Kind) -> Unit:
    """Return the record of an addition's branch: the modules of it go, the shortcut stays.

    Args:
        traced: The recorded forward.
        addition: The addition.
        name: The site, or the heaviest part where the site has several branches.
        kind: "branch" or "sublayer".
    """
    site = addition.site
    gone = (*addition.parts, *addition.outside)
    parts = tuple(part for part in addition.parts if part != name and within(part, name))
    also = [part for part in gone if part not in parts and part != name]
    first = first_shape(traced, site)
    out = traced.trace.shapes[addition.skip][1:]
    return Unit(
        name=name,
        kind=kind,
        in_shape=first if name == site.name else out,
        out_shape=out,
        params=traced.saved_params(gone) + traced.own_params(site.name, addition.dead, gone),
        flops=sum(traced.trace.ops[k].flops for k in addition.dead) // traced.trace.batch,
        position=0,
        stage=stage_of(site.name if name == site.name else name, out),
        how="branch",
        parts=parts,
        class_name=class_name(traced, name),
        output={"given": given_names(traced, site)} | ({"gated": True} if addition.gated else {}),
        site=None if name == site.name else site.name,
        also={part: _stand_in(traced, part) for part in also},
    )


def zeroed_unit(traced: TraceIndex, addition: ResidualAdd, unit: Unit) -> Unit | None:
    """Return the same unit with zeros in place of the branch, where its site cannot be read.

    That is possible where the module that ends the branch has an argument of its output's shape,
    and the site has no parameters of its own that nobody would read any more.
    """
    alone = not addition.gated  # the other side of the sum must stay as it is
    if not alone or traced.own_params(
        addition.site.name, addition.dead, (*addition.parts, *addition.outside)
    ):
        return None
    last = _last_module(traced, addition)
    call = traced.call(last) if last else None
    structure = zero_structure(traced, call) if call is not None else None
    if last is None or structure is None:
        return None
    gone = [*addition.parts, *addition.outside]
    return replace(
        unit,
        name=last,
        how="passthrough",
        parts=(),
        output=structure,
        site=None,
        also={part: _stand_in(traced, part) for part in gone if part != last},
        class_name=class_name(traced, last),
    )


def _last_module(traced: TraceIndex, addition: ResidualAdd) -> str | None:
    """Return the part that hands the branch to the addition."""
    inputs = traced.trace.ops[addition.op].inputs
    value = inputs[1] if inputs[0] == addition.skip else inputs[0]
    while (made := traced.trace.maker[value]) is not None:
        for part in addition.parts:
            call = traced.call(part)
            if call is not None and call.start <= made < call.end:
                return part if any(v == value for _, v in call.outputs) else None
        sources = [v for v in traced.trace.ops[made].inputs if v not in traced.weights]
        dead = [v for v in sources if traced.trace.maker[v] in addition.dead]
        if len(dead) != 1:
            return None
        value = dead[0]
    return None


def _stand_in(traced: TraceIndex, name: str) -> object:
    call = traced.call(name)
    assert call is not None
    return any_structure(call)


def locked_unit(
    traced: TraceIndex, name: str, reason: Reason, detail: str, *, kind: Kind = "block"
) -> LockedUnit:
    """Return the record of a module that cannot go."""
    calls = [call for call in traced.trace.calls if call.name == name]
    out = last_shape(traced, calls[0]) if calls else ()
    return LockedUnit(
        name=name,
        kind=kind,
        reason=reason,
        detail=detail,
        params=traced.saved_params([name]),
        flops=sum(traced.trace.flops(call) for call in calls),
        stage=stage_of(name, out),
        in_shape=first_shape(traced, calls[0]) if calls else (),
        out_shape=out,
        class_name=class_name(traced, name),
    )


def locked(unit: Unit, reason: Reason, detail: str) -> LockedUnit:
    """Return the record of a unit that must stay."""
    return LockedUnit(
        name=unit.name,
        kind=unit.kind,
        reason=reason,
        detail=detail,
        params=unit.params,
        flops=unit.flops,
        stage=unit.stage,
        in_shape=unit.in_shape,
        out_shape=unit.out_shape,
        class_name=unit.class_name,
    )


def given_names(traced: TraceIndex, call: Call) -> list[str]:
    """Return the parameters of a forward that tensors were passed for."""
    import inspect

    names = list(inspect.signature(traced.named[call.name].forward).parameters)
    found: list[str] = []
    for (kind, key, *_), _ in call.inputs:
        name = names[key] if kind == 0 and isinstance(key, int) and key < len(names) else key
        if isinstance(name, str) and name not in found:
            found.append(name)
    return found


def stage_of(name: str, shape: Iterable[int]) -> str:
    """Return what units of one stage share: their container, and the shape that leaves them."""
    return f"{name.rpartition('.')[0]}@{'x'.join(map(str, shape))}"


def in_container(traced: TraceIndex, name: str) -> bool:
    """Tell whether a module is an element of a Sequential, ModuleList or ModuleDict."""
    return isinstance(traced.named[name.rpartition(".")[0]], CONTAINERS)


def class_name(traced: TraceIndex, name: str) -> str:
    """Return the name of a module's class."""
    return type(traced.named[name]).__name__


def first_shape(traced: TraceIndex, call: Call) -> tuple[int, ...]:
    """Return the shape of the first tensor that enters a call, without the batch."""
    return traced.trace.shapes[call.inputs[0][1]][1:] if call.inputs else ()


def last_shape(traced: TraceIndex, call: Call) -> tuple[int, ...]:
    """Return the shape of the first tensor that leaves a call, without the batch."""
    return traced.trace.shapes[call.outputs[0][1]][1:] if call.outputs else ()
