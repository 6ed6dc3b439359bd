"""Leaves an addition out of code that torch.fx has read: its shortcut takes its place."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from srinit.errors import SurgeryError
from srinit.recording import mix, plain_weight, random_leaf

ADDITIONS = (operator.add, operator.iadd, operator.sub, torch.add, torch.sub, torch.addcmul)
METHODS = ("add", "add_", "sub", "sub_", "addcmul", "addcmul_", "__add__", "__iadd__")
SUMS = frozenset(
    [
        "add",
        "iadd",
        "sub",
        "isub",
        "rsub",
        "mul",
        "imul",
        "truediv",
        "div",
        "lerp",
        "where",
        "addcmul",
    ]
)
ELEMENTWISE = SUMS | {
    "neg", "sigmoid", "tanh", "exp", "relu", "clamp", "gt", "ge", "lt", "le", "logical_not", "to",
    "float", "bool", "clone", "hardsigmoid", "pow", "reciprocal", "invert",
}  # fmt: skip


def leave_out(
    shell: nn.Module, graph: fx.Graph, parts: frozenset[str], *, gated: tuple[int, ...] | None
) -> None:
    """Replace the addition whose one side is `parts` by its other side, in place.

    Args:
        shell: The module whose code it is.
        graph: The code.
        parts: Names of the submodules that nobody needs afterwards.
        gated: Shape of a gated sum, which goes as a whole.

    Raises:
        SurgeryError: There is no such addition.
    """
    weighted = {
        name
        for name in called_in(graph.nodes)
        if next(shell.get_submodule(name).parameters(), None) is not None
    }
    roots = [node for node in graph.nodes if node.op == "output" or _acts(node)]
    for node in reversed(list(graph.nodes)):
        for keep in _sides(node) if gated is None else _mixed(shell, node, gated):
            needed = _needed(roots, node, keep)
            if weighted - called_in(needed) == parts:
                node.replace_all_uses_with(keep)
                for step in reversed(list(graph.nodes)):
                    if step not in needed and step.op != "placeholder":
                        graph.erase_node(step)
                return
    raise SurgeryError(
        f"the forward of {type(shell).__name__} has no addition whose one side is "
        f"{', '.join(sorted(parts))}"
    )


def called_in(nodes: Iterable[fx.Node]) -> set[str]:
    """Return the names of the submodules that steps call."""
    return {str(node.target) for node in nodes if node.op == "call_module"}


def _acts(node: fx.Node) -> bool:
    """Tell whether a step whose result nobody reads still does something."""
    in_place = node.op == "call_method" and str(node.target).endswith("_")
    return not node.users and (in_place or node.target is operator.setitem)


def _sides(node: fx.Node) -> list[fx.Node]:
    """Return what may stay of an addition."""
    known = (node.op == "call_function" and node.target in ADDITIONS) or (
        node.op == "call_method" and node.target in METHODS
    )
    if not known or len(node.all_input_nodes) < 2:
        return []
    both = _name(node) in ("add", "iadd") and node.kwargs.get("alpha", 1) == 1
    first = [node.args[0]] if node.args and isinstance(node.args[0], fx.Node) else []
    return list(node.all_input_nodes) if both else first


def _needed(roots: Collection[fx.Node], addition: fx.Node, keep: fx.Node) -> set[fx.Node]:
    """Return the steps that are needed if an addition is replaced by one of its sides."""
    waiting = list(roots)
    seen: set[fx.Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting.extend([keep] if node is addition else node.all_input_nodes)
    return seen - {addition}


def _mixed(shell: nn.Module, node: fx.Node, shape: tuple[int, ...]) -> Iterator[fx.Node]:
    """Yield what is left of a gated sum without its branch."""
    if node.op in ("call_function", "call_method") and _name(node) in SUMS:
        for found in mix(_Steps(shell, shape), node):
            yield found.keep


def _name(node: fx.Node) -> str:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.strip("_")


@dataclass(frozen=True, slots=True)
class _Steps:
    """The terms of a step in code; keys are the steps."""

    shell: nn.Module
    shape: tuple[int, ...]

    def parts(self, key: fx.Node) -> list[fx.Node] | None:
        """Return the steps that one is computed from, where it can be computed."""
        if key.op not in ("call_function", "call_method"):
            return None
        known = _name(key) in ELEMENTWISE or _of_weights(key)
        return list(key.all_input_nodes) if known else None

    def compute(self, key: fx.Node, value_of: Callable[[Any], Tensor], trial: int) -> Tensor:
        """Return the result of a step."""
        args = fx.node.map_arg(key.args, lambda one: value_of(one).clone())
        kwargs = fx.node.map_arg(key.kwargs, lambda one: value_of(one).clone())
        if key.op == "call_method":
            result = getattr(args[0], str(key.target))(*args[1:], **kwargs)
        else:
            assert callable(key.target)
            result = key.target(*args, **kwargs)
        assert isinstance(result, Tensor)
        return result

    def leaf(self, key: fx.Node, trial: int) -> Tensor:
        """Return a weight of the module, or random numbers of the sum's shape."""
        if key.op == "get_attr":
            owner: Any = self.shell
            for step in str(key.target).split("."):
                owner = getattr(owner, step)
            if isinstance(owner, Tensor):
                return plain_weight(owner, trial, key.name)
        return random_leaf(self.shape, torch.float64, trial, key.name)

    def full(self, key: fx.Node) -> bool:
        """Tell whether a value may have the shape of the sum: shapes are not known here."""
        return key.op != "get_attr" and not _of_weights(key)

    def comes_from(self, key: fx.Node, source: fx.Node) -> bool:
        """Tell whether a step uses the result of another one."""
        waiting, seen = [key], {key}
        while waiting:
            for before in waiting.pop().all_input_nodes:
                if before is source:
                    return True
                if before not in seen:
                    seen.add(before)
                    waiting.append(before)
        return False


def _of_weights(key: fx.Node) -> bool:
    """Tell whether a step computes something from parameters alone."""
    if key.op == "get_attr":
        return True
    inputs = key.all_input_nodes if key.op in ("call_function", "call_method") else []
    return bool(inputs) and all(map(_of_weights, inputs))
