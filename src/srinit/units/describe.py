"""Builds the records of units and locked units from a recorded forward."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from srinit.recording import Call, Facts, Merge, within
from srinit.units.choose import CONTAINERS, Candidate
from srinit.units.records import Kind, LockedUnit, Reason, Unit
from srinit.units.structure import any_structure, structure_of, zero_structure


def whole_unit(facts: Facts, candidate: Candidate, kind: Kind) -> Unit:
    """Return the record of a module that goes as a whole."""
    name, call, stream = candidate.name, candidate.call, candidate.stream
    shape = facts.trace.shapes[stream.source][1:]
    return Unit(
        name=name,
        kind=kind,
        in_shape=shape,
        out_shape=shape,
        params=facts.saved_params([name]),
        flops=facts.trace.flops(call),
        position=0,
        stage=stage_of(name, shape),
        how="delete" if in_container(facts, name) else "passthrough",
        class_name=class_name(facts, name),
        output=structure_of(facts, call, stream),
    )


def branch_unit(facts: Facts, merge: Merge, name: str, kind: Kind) -> Unit:
    """Return the record of an addition's branch: the modules of it go, the shortcut stays.

    Args:
        facts: The recorded forward.
        merge: The addition.
        name: The site, or the heaviest part where the site has several branches.
        kind: "branch" or "sublayer".
    """
    site = merge.site
    gone = (*merge.parts, *merge.outside)
    parts = tuple(part for part in merge.parts if part != name and within(part, name))
    also = [part for part in gone if part not in parts and part != name]
    first = first_shape(facts, site)
    out = facts.trace.shapes[merge.skip][1:]
    return Unit(
        name=name,
        kind=kind,
        in_shape=first if name == site.name else out,
        out_shape=out,
        params=facts.saved_params(gone) + facts.own_params(site.name, merge.dead, gone),
        flops=sum(facts.trace.ops[k].flops for k in merge.dead) // facts.trace.batch,
        position=0,
        stage=stage_of(site.name if name == site.name else name, out),
        how="branch",
        parts=parts,
        class_name=class_name(facts, name),
        output={"given": given_names(facts, site)} | ({"gated": True} if merge.gated else {}),
        site=None if name == site.name else site.name,
        also={part: _stand_in(facts, part) for part in also},
    )


def zeroed_unit(facts: Facts, merge: Merge, unit: Unit) -> Unit | None:
    """Return the same unit with zeros in place of the branch, where its site cannot be read.

    That is possible where the module that ends the branch has an argument of its output's shape,
    and the site has no parameters of its own that nobody would read any more.
    """
    alone = not merge.gated  # the other side of the sum must stay as it is
    if not alone or facts.own_params(merge.site.name, merge.dead, (*merge.parts, *merge.outside)):
        return None
    last = _last_module(facts, merge)
    call = facts.call(last) if last else None
    structure = zero_structure(facts, call) if call is not None else None
    if last is None or structure is None:
        return None
    gone = [*merge.parts, *merge.outside]
    return replace(
        unit,
        name=last,
        how="passthrough",
        parts=(),
        output=structure,
        site=None,
        also={part: _stand_in(facts, part) for part in gone if part != last},
        class_name=class_name(facts, last),
    )


def _last_module(facts: Facts, merge: Merge) -> str | None:
    """Return the part that hands the branch to the addition."""
    inputs = facts.trace.ops[merge.op].inputs
    value = inputs[1] if inputs[0] == merge.skip else inputs[0]
    while (made := facts.trace.maker[value]) is not None:
        for part in merge.parts:
            call = facts.call(part)
            if call is not None and call.start <= made < call.end:
                return part if any(v == value for _, v in call.outputs) else None
        sources = [v for v in facts.trace.ops[made].inputs if v not in facts.weights]
        dead = [v for v in sources if facts.trace.maker[v] in merge.dead]
        if len(dead) != 1:
            return None
        value = dead[0]
    return None


def _stand_in(facts: Facts, name: str) -> object:
    call = facts.call(name)
    assert call is not None
    return any_structure(call)


def locked_unit(
    facts: Facts, name: str, reason: Reason, detail: str, *, kind: Kind = "block"
) -> LockedUnit:
    """Return the record of a module that cannot go."""
    calls = [call for call in facts.trace.calls if call.name == name]
    out = last_shape(facts, calls[0]) if calls else ()
    return LockedUnit(
        name=name,
        kind=kind,
        reason=reason,
        detail=detail,
        params=facts.saved_params([name]),
        flops=sum(facts.trace.flops(call) for call in calls),
        stage=stage_of(name, out),
        in_shape=first_shape(facts, calls[0]) if calls else (),
        out_shape=out,
        class_name=class_name(facts, name),
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


def given_names(facts: Facts, call: Call) -> list[str]:
    """Return the parameters of a forward that tensors were passed for."""
    import inspect

    names = list(inspect.signature(facts.named[call.name].forward).parameters)
    found: list[str] = []
    for (kind, key, *_), _ in call.inputs:
        name = names[key] if kind == 0 and isinstance(key, int) and key < len(names) else key
        if isinstance(name, str) and name not in found:
            found.append(name)
    return found


def stage_of(name: str, shape: Iterable[int]) -> str:
    """Return what units of one stage share: their container, and the shape that leaves them."""
    return f"{name.rpartition('.')[0]}@{'x'.join(map(str, shape))}"


def in_container(facts: Facts, name: str) -> bool:
    """Tell whether a module is an element of a Sequential, ModuleList or ModuleDict."""
    return isinstance(facts.named[name.rpartition(".")[0]], CONTAINERS)


def class_name(facts: Facts, name: str) -> str:
    """Return the name of a module's class."""
    return type(facts.named[name]).__name__


def first_shape(facts: Facts, call: Call) -> tuple[int, ...]:
    """Return the shape of the first tensor that enters a call, without the batch."""
    return facts.trace.shapes[call.inputs[0][1]][1:] if call.inputs else ()


def last_shape(facts: Facts, call: Call) -> tuple[int, ...]:
    """Return the shape of the first tensor that leaves a call, without the batch."""
    return facts.trace.shapes[call.outputs[0][1]][1:] if call.outputs else ()
