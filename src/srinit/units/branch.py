"""Blocks that change the shape: the branch goes, the shortcut stays.

Only the module that executes the addition is rewritten (torch.fx); the rest of the network, and
the modules inside the shortcut, stay the user's own.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import fx, nn

from srinit.errors import SurgeryError

ADDITIONS = (operator.add, operator.iadd, torch.add)
METHODS = ("add", "add_")


@dataclass(frozen=True, slots=True)
class Branch:
    """The two sides of a block's last addition."""

    graph: fx.Graph
    addition: fx.Node
    shortcut: fx.Node
    parts: tuple[str, ...]  # submodules that only the branch uses


def without_branch(block: nn.Module) -> nn.Module:
    """Return the block reduced to its shortcut; `block` is not touched, its modules are shared.

    Raises:
        SurgeryError: There is no addition of a branch and a lighter shortcut, or the block's
            code cannot be read.
    """
    found = find_branch(block)
    found.addition.replace_all_uses_with(found.shortcut)
    reduced = fx.GraphModule(block, found.graph, class_name=type(block).__name__)
    reduced.graph.eliminate_dead_code()
    reduced.recompile()
    reduced.delete_all_unused_submodules()
    return reduced.train(block.training)


def find_branch(block: nn.Module) -> Branch:
    """Return the sides of the last addition in a block; see `without_branch`."""
    graph = _graph(block)
    node = next(n for n in reversed(graph.nodes) if n.op == "output").args[0]
    while isinstance(node, fx.Node) and not _is_addition(node):
        before = node.all_input_nodes
        if len(before) != 1:
            break
        node = before[0]
    if not isinstance(node, fx.Node) or not _is_addition(node):
        raise SurgeryError("its output is not the sum of a branch and a shortcut")
    sides = [(_params(block, side), side) for side in node.all_input_nodes]
    reached = [any(n.op == "placeholder" for n in _above(side)) for _, side in sides]
    if len(sides) != 2 or not all(reached):
        raise SurgeryError("its addition does not join two paths from the input")
    (light, shortcut), (heavy, branch) = sorted(sides, key=lambda pair: pair[0])
    if light == heavy:
        raise SurgeryError("its two paths are equally heavy; none is the shortcut")
    used = {str(n.target) for n in graph.nodes if n.op == "call_module"}
    ours = {str(n.target) for n in _above(branch) if n.op == "call_module"}
    others = {str(n.target) for n in _above(shortcut) if n.op == "call_module"}
    after = used - ours - others
    parts = tuple(sorted(ours - others - after))
    return Branch(graph, node, shortcut, parts)


def _graph(block: nn.Module) -> fx.Graph:
    """Return the block's graph, if it is the same in training and in evaluation."""
    flags = [(module, module.training) for module in block.modules()]
    try:
        graphs = []
        for mode in (True, False):
            block.train(mode)
            graphs.append(fx.Tracer().trace(block))
    except Exception as error:  # the block's own code runs on stand-ins and may do anything
        raise SurgeryError(f"its code cannot be read: {type(error).__name__}: {error}") from None
    finally:
        for module, flag in flags:
            module.training = flag
    if str(graphs[0]) != str(graphs[1]):
        raise SurgeryError("its code differs between training and evaluation")
    return graphs[1]


def _is_addition(node: fx.Node) -> bool:
    if node.op == "call_function":
        return node.target in ADDITIONS and len(node.all_input_nodes) == 2
    return node.op == "call_method" and node.target in METHODS and len(node.all_input_nodes) == 2


def _above(node: fx.Node) -> set[fx.Node]:
    """Return a node and everything it is computed from."""
    waiting, seen = [node], set()
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting.extend(current.all_input_nodes)
    return seen


def _params(block: nn.Module, node: fx.Node) -> int:
    targets = {str(n.target) for n in _above(node) if n.op == "call_module"}
    return count(block, targets)


def count(block: nn.Module, parts: Iterable[str]) -> int:
    """Return the number of parameters in some submodules; a shared one counts once."""
    found = {id(p): p.numel() for part in parts for p in block.get_submodule(part).parameters()}
    return sum(found.values())
