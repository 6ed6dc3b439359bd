"""Chooses units among the modules with a skip path: bottom-up, then lifted to the list element."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from srinit.recording import Call, TraceIndex
from srinit.units.rule import Stream, stream_of

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(slots=True)
class Candidate:
    """A module with a skip path."""

    name: str
    call: Call
    stream: Stream


@dataclass(slots=True)
class Choice:
    """The units, and the modules with a skip path that lie below and above them."""

    units: dict[str, Candidate]
    below: dict[str, Candidate]  # sub-layers of units that were found on their own
    above: dict[str, Candidate]  # stages


def candidates(traced: TraceIndex) -> dict[str, Candidate]:
    """Return the modules that are called once and have parameters and a skip path."""
    found = {}
    for call in traced.trace.calls:
        name = call.name
        if not name or traced.counts[name] != 1 or not traced.has_params(name):
            continue
        stream = stream_of(traced.trace, call)
        if stream is not None:
            found[name] = Candidate(name, call, stream)
    return found


def choose(traced: TraceIndex, found: Mapping[str, Candidate]) -> Choice:
    """Return which candidates are units.

    A module with additions of its own wins over the units below it if it has at least as many as
    there are such units: a transformer layer over its attention half, but not a stage with one
    outer shortcut over its blocks.
    """
    named = traced.named
    units: dict[str, Candidate] = {}
    below: dict[str, Candidate] = {}
    for name in sorted(found, key=lambda n: (-n.count("."), n)):
        inner = [n for n in units if n.startswith(f"{name}.")]
        own = set(found[name].stream.additions)
        for unit in inner:
            own -= units[unit].stream.additions
        if inner and len(own) < len(inner):
            continue
        for unit in inner:
            below[unit] = units.pop(unit)
        units[name] = found[name]
    _lift(named, found, units, below)
    stages = {
        name: candidate
        for name, candidate in found.items()
        if name not in units and any(unit.startswith(f"{name}.") for unit in units)
    }
    return Choice(units, below, stages)


def _lift(
    named: Mapping[str, nn.Module],
    found: Mapping[str, Candidate],
    units: dict[str, Candidate],
    below: dict[str, Candidate],
) -> None:
    """Replace units by the enclosing element of a list, unless that is a stage."""
    stage_classes = {type(named[name]) for name in holders(named, units)}
    changed = True
    while changed:
        changed = False
        for unit in list(units):
            element = _enclosing_element(named, unit)
            if element is None or element not in found or type(named[element]) in stage_classes:
                continue
            for inner in [n for n in units if n.startswith(f"{element}.")]:
                below[inner] = units.pop(inner)
            units[element] = found[element]
            changed = True
            break


def holders(named: Mapping[str, nn.Module], units: Mapping[str, Candidate]) -> set[str]:
    """Return the modules that hold a run: two units of one class in one container."""
    runs = Counter((unit.rpartition(".")[0], type(named[unit])) for unit in units)
    found = set()
    for (container, _), count in runs.items():
        path = container
        while count > 1 and path:
            found.add(path)
            path = path.rpartition(".")[0]
    return found


def _enclosing_element(named: Mapping[str, nn.Module], unit: str) -> str | None:
    """Return the nearest module above a unit that is itself an element of a container."""
    path = unit.rpartition(".")[0]
    while path:
        parent = named[path.rpartition(".")[0]]
        if isinstance(parent, CONTAINERS) and not isinstance(named[path], CONTAINERS):
            return path
        path = path.rpartition(".")[0]
    return None
