"""What the choice of units asks of a recorded forward: who called whom, who owns what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from functools import cached_property

from torch import nn

from srinit.recording.mixes import find_mixes
from srinit.recording.operations import short
from srinit.recording.trace import Call, Trace


class TraceIndex:
    """A model with one recorded forward of it; nothing here changes either.

    Args:
        model: The network.
        trace: One forward of it.
    """

    def __init__(self, model: nn.Module, trace: Trace) -> None:
        self.model = model
        self.trace = trace
        self.named: Mapping[str, nn.Module] = dict(model.named_modules())
        self.counts = Counter(call.name for call in trace.calls)
        self._first: dict[str, Call] = {}
        for call in trace.calls:
            self._first.setdefault(call.name, call)
        tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        trace.mixes = find_mixes(trace, tensors)

    def call(self, name: str) -> Call | None:
        """Return the first call of a module, or None."""
        return self._first.get(name)

    @cached_property
    def owner(self) -> list[int]:
        """For every operation the number of the innermost call that executed it."""
        owner = [0] * len(self.trace.ops)
        for call in self.trace.calls:  # in the order they began, so inner ones overwrite
            owner[call.start : call.end] = [call.number] * (call.end - call.start)
        return owner

    @cached_property
    def final(self) -> frozenset[int]:
        """The values the model returned."""
        return frozenset(self.trace.final)

    @cached_property
    def weights(self) -> frozenset[int]:
        """Values made from parameters alone, such as a transposed weight."""
        found: set[int] = set()
        for op in self.trace.ops:
            inputs_are = all(value in found for value in op.inputs)
            if inputs_are and (op.uses_params or op.inputs):
                found.update(op.outputs)
        return frozenset(found)

    def heavy(self, index: int) -> bool:
        """Tell whether an operation is a product with parameters: a convolution or linear map."""
        op = self.trace.ops[index]
        if op.flops == 0:
            return False
        return op.uses_params or any(value in self.weights for value in op.inputs)

    @cached_property
    def useless(self) -> frozenset[int]:
        """Operations whose results nobody uses: final states, weights of attention.

        Those that write into a tensor count as used: who reads it through a view is not seen.
        """
        found: set[int] = set()
        for index in range(len(self.trace.ops) - 1, -1, -1):
            op = self.trace.ops[index]
            writes = not op.outputs or op.name.split(".")[1].endswith("_") or short(op) == "copy"
            used = any(
                out in self.final or any(r not in found for r in self.readers(out))
                for out in op.outputs
            )
            if not writes and not used:
                found.add(index)
        return frozenset(found)

    def chain(self, number: int | None) -> list[int]:
        """Return the calls around a call, itself first, the model last."""
        found = []
        while number is not None:
            found.append(number)
            number = self.trace.calls[number].parent
        return found

    def readers(self, value: int) -> list[int]:
        """Return the operations that read a value, in order."""
        return self.trace.readers.get(value, [])

    @cached_property
    def _owners(self) -> dict[int, tuple[int, list[str]]]:
        found: dict[int, tuple[int, list[str]]] = {}
        for name, module in self.model.named_modules(remove_duplicate=False):
            for parameter in module._parameters.values():
                if parameter is not None:
                    found.setdefault(id(parameter), (parameter.numel(), []))[1].append(name)
        return found

    @cached_property
    def _inside(self) -> dict[str, set[int]]:
        """By module the parameters that it or one of its submodules owns."""
        found: dict[str, set[int]] = {}
        for number, (_, owners) in self._owners.items():
            for path in owners:
                while path:
                    found.setdefault(path, set()).add(number)
                    path = path.rpartition(".")[0]
        return found

    @cached_property
    def _param_readers(self) -> dict[int, set[int]]:
        found: dict[int, set[int]] = {}
        for index, op in enumerate(self.trace.ops):
            for number in op.params:
                found.setdefault(number, set()).add(index)
        return found

    def own_params(self, site: str, dead: Collection[int], parts: Collection[str]) -> int:
        """Return how many parameters inside `site`, not in `parts`, only `dead` operations read.

        Such parameters are read by the code of the site itself; they go with the branch.
        """
        total = 0
        for number in {number for index in dead for number in self.trace.ops[index].params}:
            if number not in self._owners or not self._param_readers[number] <= set(dead):
                continue
            size, owners = self._owners[number]
            inside = all(within(owner, site) for owner in owners)
            if inside and not any(within(owner, part) for owner in owners for part in parts):
                total += size
        return total

    def saved_params(self, names: Collection[str]) -> int:
        """Return how many parameters nobody owns once these modules are gone."""
        inside = set().union(*(self._inside.get(name, ()) for name in names))
        owned = [self._owners[number] for number in inside]
        return sum(
            size
            for size, owners in owned
            if all(any(within(owner, name) for name in names) for owner in owners)
        )

    def has_params(self, name: str) -> bool:
        """Tell whether a module or one of its submodules has parameters."""
        return name in self._inside or (not name and bool(self._owners))


def within(name: str, outer: str) -> bool:
    """Tell whether a module is `outer` or lies inside it.

    Example:
        >>> within("layer1.0", "layer1"), within("layer10", "layer1"), within("layer1", "")
        (True, False, True)
    """
    return not outer or name == outer or name.startswith(f"{outer}.")
