"""Which value of the unpruned network stands at the place of a value of the cut one.

A cut leaves the remaining layers as they were, so operations that read the same parameters are the
same step of both networks, and what such a step reads stands at the same place. Of a value *before*
removed units that is the value *behind* them: the next remaining step reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cached_property

from srinit.recording import TraceIndex, short


class Side:
    """One network's recorded forward, and which parameters each operation reads.

    Args:
        facts: The recorded forward.
        names: For parameters and buffers (by id) what they are called in the unpruned network.
    """

    def __init__(self, facts: TraceIndex, names: Mapping[int, str]) -> None:
        self.facts, self.trace, self.names = facts, facts.trace, names
        self.params: list[tuple[int, ...]] = []  # by operation, those behind weights included
        behind: dict[int, tuple[int, ...]] = {}
        for op in self.trace.ops:
            found = op.params + tuple(p for value in op.inputs for p in behind.get(value, ()))
            self.params.append(found)
            if op.outputs and all(value in facts.weights for value in op.outputs):
                behind |= dict.fromkeys(op.outputs, found)

    def data(self, index: int) -> list[int]:
        """Return the values that an operation reads and that depend on more than parameters."""
        weights = self.facts.weights
        return [value for value in self.trace.ops[index].inputs if value not in weights]

    @cached_property
    def anchors(self) -> dict[tuple[str, tuple[str, ...], int], int]:
        """Operations that read parameters: (name, parameters, how-manieth) -> number."""
        found, times = {}, Counter[tuple[str, tuple[str, ...]]]()
        for index, params in enumerate(self.params):
            names = tuple(self.names[p] for p in params if p in self.names)
            if names and self.data(index):
                key = (short(self.trace.ops[index]), names)
                found[(*key, times[key])] = index
                times[key] += 1
        return found

    def leaf_input(self, index: int, value: int) -> tuple[int, object] | None:
        """Return the innermost call that reads a value by an operation, and as which argument."""
        call = self.trace.calls[self.facts.owner[index]]
        if call.number in self._with_calls:
            return None
        return next(((call.number, path) for path, v in call.inputs if v == value), None)

    @cached_property
    def _with_calls(self) -> frozenset[int]:
        return frozenset(c.parent for c in self.trace.calls if c.parent is not None)


class Alignment:
    """Places of a cut network in the unpruned one.

    Args:
        teacher: The unpruned network.
        student: The cut one; its parameters are named as in the unpruned network.
        modules: Names of the cut network's modules -> in the unpruned one.
    """

    def __init__(self, teacher: Side, student: Side, modules: Mapping[str, str]) -> None:
        self.teacher, self.student, self.modules = teacher, student, modules
        theirs = teacher.anchors
        self.steps = {own: theirs[key] for key, own in student.anchors.items() if key in theirs}
        self._extend()

    def _extend(self) -> None:
        """Align steps without parameters that lead to aligned ones, or to the end."""
        mine, theirs = self.student.trace, self.teacher.trace
        starts = [*self.steps.items(), (len(mine.ops), len(theirs.ops))]
        anchored = frozenset(self.teacher.anchors.values())
        for own, other in starts:
            one, two = own - 1, other - 1
            while one >= 0 and two >= 0 and one not in self.steps and two not in anchored:
                if mine.ops[one].name != theirs.ops[two].name:
                    break
                self.steps[one] = two
                one, two = one - 1, two - 1

    @cached_property
    def begins(self) -> int:
        """The first operation of the cut network behind which something is missing."""
        own = list(self.student.anchors.values())
        other = list(self.teacher.anchors.values())
        for one, two in zip(own, other, strict=False):
            if self.steps.get(one) != two:
                return one
        return own[-1] + 1 if own else 0

    def value(self, value: int) -> int | None:
        """Return the unpruned network's value at the place of a value, as its readers see it.

        None where its readers have no counterpart, or disagree.
        """
        found = set()
        for index in self.student.facts.readers(value):
            by_call = self._by_call(index, value)
            if by_call is not None:
                found.add(by_call)
            elif index in self.steps and value in self.student.data(index):
                place = self.student.data(index).index(value)
                theirs = self.teacher.data(self.steps[index])
                if place < len(theirs) and self._is_anchored(index):
                    found.add(theirs[place])
        if not found:
            found = self._by_steps(value)
        return found.pop() if len(found) == 1 else None

    def _is_anchored(self, index: int) -> bool:
        return bool(self.student.params[index])

    def _by_call(self, index: int, value: int) -> int | None:
        read = self.student.leaf_input(index, value)
        if read is None:
            return None
        number, path = read
        call = self.student.trace.calls[number]
        name = self.modules.get(call.name, call.name)
        own, others = self.student.trace.calls_of(call.name), self.teacher.trace.calls_of(name)
        if not name or len(own) != len(others):  # some calls went with a branch: which, is unknown
            return None
        times = [each.number for each in own].index(number)
        return next((v for p, v in others[times].inputs if p == path), None)

    def _by_steps(self, value: int) -> set[int]:
        """Return what aligned steps without parameters read; of an answer the same answer."""
        found = set()
        for index in self.student.facts.readers(value):
            if index in self.steps:
                theirs = self.teacher.trace.ops[self.steps[index]].inputs
                found.add(theirs[self.student.trace.ops[index].inputs.index(value)])
        final = self.student.trace.final
        if value in final and not found:
            found.add(self.teacher.trace.final[final.index(value)])
        return found


def module_names(student: TraceIndex, origins: Mapping[str, str]) -> dict[str, str]:
    """Return for the modules of a cut network their names in the unpruned one.

    Args:
        student: The cut network; a module that cannot be told apart from others has "".
        origins: For keys of its state dict those of the unpruned network.
    """
    found: dict[str, str] = {}
    renumbered: set[str] = set()  # containers of the cut network whose entries moved up
    for own, other in origins.items():
        one, two = own.rpartition(".")[0], other.rpartition(".")[0]
        while one and two:
            found.setdefault(one, two)
            one, _, last = one.rpartition(".")
            two, _, same = two.rpartition(".")
            if last != same:
                renumbered.add(one)
                if not (last.isdigit() and same.isdigit()):
                    break
    for name in student.named:
        path, rest = name, ""
        while path and path not in found:
            path, _, last = path.rpartition(".")
            rest = f".{last}{rest}"
        if rest and path in renumbered:
            found[name] = ""  # without parameters nothing says which entry it was
        else:
            found.setdefault(name, (found.get(path, path) + rest).lstrip("."))
    return found
