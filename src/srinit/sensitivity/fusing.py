"""Convolutions that add and clamp what they put out, and layers whose weights differ by group.

On a CPU a third of a small network's time goes into walking through memory for additions and
ReLUs; oneDNN does them on a convolution's result while that is in a register. And a unit that is
drawn again for every few examples runs once for the whole batch when its layers know which
examples meet which weights. Both change the scan's own copy alone, and only where `torch.fx` reads
the module; elsewhere it runs as it was written.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from srinit.records import record
from srinit.sensitivity.folding import is_folded

RELUS = (F.relu, torch.relu, torch.relu_)
RELU_METHODS = ("relu", "relu_")
ADDS = (operator.add, operator.iadd, torch.add)
ADD_METHODS = ("add", "add_")
MOST_STACKED = 4  # examples of a group up to which one call for all groups is faster


def fused_dtypes() -> tuple[torch.dtype, ...]:
    """Return the number formats in which this CPU's convolutions can add and clamp."""
    if not has_onednn():
        return ()
    has_half: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return (torch.float32, torch.bfloat16) if has_half else (torch.float32,)


def has_onednn() -> bool:
    """Return whether torch was built with oneDNN, and may use it."""
    return torch._C._has_mkldnn and torch._C._get_mkldnn_enabled()


@record
class Part:
    """Weights of one group of examples."""

    start: int
    stop: int
    weight: Tensor
    bias: Tensor | None


@record
class Stack:
    """Weights of all groups of a batch, each of as many examples, for one grouped convolution.

    One call for all groups takes half the time of one call each where a group is one example.
    """

    groups: int
    weight: Tensor  # (groups * out, in, ...)
    bias: Tensor | None  # (groups * out,)


class Layer(nn.Module):
    """A convolution or linear layer that may add and clamp, and have weights for each group.

    Args:
        inner: The layer; its weights are used while there are no `parts`.
    """

    def __init__(self, inner: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self._inner = [inner]  # not a child: it stays where it is in the model
        self.parts: Sequence[Part] | Stack = ()
        self.size = 0  # examples that the parts cover

    @property
    def inner(self) -> nn.Conv2d | nn.Linear:
        """The layer."""
        return self._inner[0]

    def forward(self, x: Tensor, other: Tensor | None = None, relu: bool = False) -> Tensor:
        """Return the layer's output, plus `other`, clamped at zero where `relu`."""
        inner = self._inner[0]
        if isinstance(self.parts, Stack):
            return _stacked(inner, x, self.parts, other, relu)
        if not self.parts:
            return _apply(inner, x, inner.weight, inner.bias, other, relu)
        each = x.shape[0] // self.size
        found = []
        for part in self.parts:
            start, count = part.start * each, (part.stop - part.start) * each
            some = None if other is None else other.narrow(0, start, count)
            rows = x.narrow(0, start, count)
            found.append(_apply(inner, rows, part.weight, part.bias, some, relu))
        return torch.cat(found)


def can_stack(inner: nn.Conv2d | nn.Linear, sizes: Collection[int]) -> bool:
    """Return whether a layer can meet groups of these sizes in one call, and gains from it."""
    weight = inner.weight
    half = weight.dtype is torch.bfloat16 and weight.dtype in fused_dtypes()
    return (
        type(inner) is nn.Conv2d
        and _is_plain(inner)
        and half
        and weight.device.type == "cpu"
        and len(set(sizes)) == 1
        and max(sizes) <= MOST_STACKED
    )


def _stacked(inner: Any, x: Tensor, stack: Stack, other: Tensor | None, relu: bool) -> Tensor:
    """Return the output of a convolution whose groups are groups of examples and of channels."""
    wide = _side_by_side(x, stack.groups)
    geometry = inner.padding, inner.stride, inner.dilation, stack.groups * inner.groups
    after = "relu" if relu and other is None else "none"
    found = torch.ops.mkldnn._convolution_pointwise(
        wide, stack.weight, stack.bias, *geometry, after, [], ""
    )
    found = _one_below_other(found, stack.groups)
    return found if other is None else _finish(found, other, relu)


def _side_by_side(x: Tensor, groups: int) -> Tensor:
    """Return examples (groups * n, C, H, W) as (n, groups * C, H, W), channels last."""
    size, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(groups, size // groups, height, width, channels)
    return x.permute(1, 2, 3, 0, 4).flatten(3).permute(0, 3, 1, 2)


def _one_below_other(x: Tensor, groups: int) -> Tensor:
    """Return (n, groups * C, H, W) as examples (groups * n, C, H, W), channels last."""
    size, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(size, height, width, groups, channels // groups)
    return x.permute(3, 0, 1, 2, 4).flatten(0, 1).permute(0, 3, 1, 2)


def _apply(
    inner: nn.Conv2d | nn.Linear,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    other: Tensor | None,
    relu: bool,
) -> Tensor:
    if isinstance(inner, nn.Linear):
        return _finish(F.linear(x, weight, bias), other, relu)
    geometry = inner.padding, inner.stride, inner.dilation, inner.groups
    fits = x.ndim == 4 and x.device.type == "cpu" and x.dtype in fused_dtypes()
    if not fits or not (relu or other is not None):
        padding, stride, dilation, groups = geometry
        return _finish(F.conv2d(x, weight, bias, stride, padding, dilation, groups), other, relu)
    if other is None:
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, bias, *geometry, "relu", [], ""
        )
        return found
    half = x.dtype is torch.bfloat16  # in 32 bits adding afterwards, in place, is faster
    alike = other.shape[0] == x.shape[0] and other.dtype is x.dtype and other.ndim == 4
    if not half or not alike or inner.groups > 1:  # grouped ones add, but do not clamp then
        padding, stride, dilation, groups = geometry
        return _finish(F.conv2d(x, weight, bias, stride, padding, dilation, groups), other, relu)
    summed: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
        x, other, weight, bias, *geometry, "add", 1.0, "relu" if relu else None, [], None
    )
    return summed


def _finish(x: Tensor, other: Tensor | None, relu: bool) -> Tensor:
    """Return `x`, which is nobody else's, with `other` added, clamped at zero where `relu`."""
    if other is not None:
        alike = other.shape == x.shape and other.dtype == x.dtype
        x = x.add_(other) if alike else x + other
    return torch.relu_(x) if relu else x


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
        if node.op == "call_module" and is_folded(children[node.target]):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    count = 0
    for node in list(graph.nodes):
        conv = children.get(node.target) if node.op == "call_module" else None
        if type(conv) is not nn.Conv2d or not _is_plain(conv) or len(node.args) != 1:
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


def _is_plain(conv: nn.Conv2d) -> bool:
    hooks = conv._forward_hooks or conv._forward_pre_hooks
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str) and not hooks


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
