"""Rewriting modules of the scan's own copy into fewer steps, and giving layers weights by group.

Only where `torch.fx` reads a module; elsewhere it runs as it was written.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from srinit.engine.folding import is_folded
from srinit.engine.layers import Layer, is_plain

RELUS = (F.relu, torch.relu, torch.relu_)
RELU_METHODS = ("relu", "relu_")
SILENT = (nn.Identity, nn.Dropout, nn.Dropout2d)
ADDS = (operator.add, operator.iadd, torch.add)
ADD_METHODS = ("add", "add_")


def fuse(model: nn.Module, units: Collection[str]) -> None:
    """Let convolutions add and clamp, in place, in a model of the scan's own.

    Modules around units keep their code, because replays go through it; units and all else that
    `torch.fx` can read are rewritten.
    """
    for module in _readable(model, "", units):
        _rewrite(module, {})


def _readable(module: nn.Module, name: str, units: Collection[str]) -> Iterator[nn.Module]:
    """Yield the outermost modules with children that hold no unit below them."""
    below = f"{name}." if name else ""
    if name and not any(unit.startswith(below) for unit in units):
        if next(module.children(), None) is not None:
            yield module
        return
    for key, child in module.named_children():
        yield from _readable(child, below + key, units)


def grouped(unit: nn.Module, drawn: Collection[str]) -> dict[str, Layer]:
    """Give the layers of these names weights by group, in place; return what sets them."""
    found: dict[nn.Module, Layer] = {}
    names: dict[str, Layer] = {}
    for name in drawn:
        inner: Any = unit.get_submodule(name)
        layer = Layer(inner)
        found[inner] = names[name] = layer
        inner.forward = layer.forward
    _rewrite(unit, found)
    return names


def _rewrite(module: nn.Module, layers: dict[nn.Module, Layer]) -> None:
    """Replace the forward of `module` by one with fewer steps, where it can be read."""
    if "forward" in module.__dict__:  # not what its class says
        return
    try:
        graph = fx.Tracer().trace(module)
        found = fx.GraphModule(module, graph)
    except Exception:  # whatever a stranger's forward raises on a stand-in for a tensor
        return
    children = dict(found.named_modules())
    for node in list(graph.nodes):
        one = len(node.args) == 1 and not node.kwargs
        if node.op == "call_module" and one and _passes_on(children[node.target]):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    count = 0
    for node in list(graph.nodes):
        conv = children.get(node.target) if node.op == "call_module" else None
        if type(conv) is not nn.Conv2d or not is_plain(conv) or len(node.args) != 1:
            continue
        chain, other, relu = _chain(node, children)
        if len(chain) < 2:
            continue
        found.add_submodule(f"fused_{count}", layers.get(conv) or Layer(conv))
        with graph.inserting_before(chain[-1] if other is not None else node):
            new = graph.call_module(f"fused_{count}", (node.args[0], other, relu))
        chain[-1].replace_all_uses_with(new)
        for old in reversed(chain):
            graph.erase_node(old)
        count += 1
    if count:
        graph.lint()
        found.recompile()
        module.forward = found.forward


def _passes_on(module: nn.Module) -> bool:
    """Return whether a module in evaluation mode hands back what it gets."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return (type(module) in SILENT and not hooks) or is_folded(module)


def _chain(conv: fx.Node, children: dict[str, nn.Module]) -> tuple[list[fx.Node], Any, bool]:
    """Return the nodes that one call can do, what is added, and whether it is clamped."""
    chain, other = [conv], None
    user = _only_user(conv)
    if user is not None and _is_add(user):
        pair = [arg for arg in user.args if arg is not conv]
        if len(pair) == 1 and isinstance(pair[0], fx.Node) and not _is_size(pair[0]):
            other = pair[0]
            chain.append(user)
            user = _only_user(user)
    if user is not None and _is_relu(user, children):
        return [*chain, user], other, True
    return chain, other, False


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_size(node: fx.Node) -> bool:
    return node.op == "call_method" and node.target in ("size", "dim")


def _is_add(node: fx.Node) -> bool:
    called = (node.op == "call_function" and node.target in ADDS) or (
        node.op == "call_method" and node.target in ADD_METHODS
    )
    return called and len(node.args) == 2 and not node.kwargs


def _is_relu(node: fx.Node, children: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return type(children.get(str(node.target))) is nn.ReLU  # another fused call is none
    if node.op == "call_method":
        return node.target in RELU_METHODS
    return node.op == "call_function" and node.target in RELUS
