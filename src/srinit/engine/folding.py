"""Batch normalization folded into the convolution or linear layer before it.

In evaluation mode it is an affine map of each channel with known numbers, so the layer before
can do it for nothing. https://arxiv.org/abs/1712.05877, section 3.2. Which layer feeds which is
seen in one forward: the same tensor that one put out, the other took in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

from srinit import modules

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Pair = tuple[str, str]


def pairs_of(model: nn.Module, inputs: Any, units: Sequence[str]) -> list[Pair]:
    """Return the names of layers and of the normalization that each one feeds.

    Both are called once, and lie in the same units: a unit that is drawn again brings layers
    that are not folded.

    Args:
        model: A model in evaluation mode; it is called once, and is as before afterwards.
        inputs: A few examples.
        units: Names of the units.
    """
    outputs: dict[int, str] = {}
    kept: list[Tensor] = []  # so that no tensor's identity is used twice
    calls: dict[str, int] = {}
    pairs: list[Pair] = []

    def note(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], output: object) -> None:
            calls[name] = calls.get(name, 0) + 1
            if type(module) in NORMS and args and id(args[0]) in outputs:
                pairs.append((outputs[id(args[0])], name))
            if type(module) in LAYERS and isinstance(output, Tensor):
                outputs[id(output)] = name
                kept.append(output)

        return hook

    handles = [
        module.register_forward_hook(note(name, module))
        for name, module in model.named_modules()
        if type(module) in LAYERS or type(module) in NORMS
    ]
    try:
        with torch.no_grad():
            modules.call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [
        pair
        for pair in pairs
        if calls[pair[0]] == calls[pair[1]] == 1
        and _around(pair[0], units) == _around(pair[1], units)
        and _can_fold(model.get_submodule(pair[0]), model.get_submodule(pair[1]))
    ]


def _around(name: str, units: Sequence[str]) -> frozenset[str]:
    return frozenset(unit for unit in units if name == unit or name.startswith(f"{unit}."))


def _can_fold(layer: nn.Module, norm: nn.Module) -> bool:
    return (
        isinstance(getattr(norm, "running_mean", None), Tensor)
        and "weight" in layer._parameters
        and not (layer._forward_hooks or layer._forward_pre_hooks or norm._forward_hooks)
    )


def fold(model: nn.Module, pairs: Sequence[Pair]) -> None:
    """Fold the pairs, in place, in a model of the scan's own."""
    for layer_name, norm_name in pairs:
        layer: Any = model.get_submodule(layer_name)
        norm: Any = model.get_submodule(norm_name)
        fuse = fuse_linear_bn_weights if isinstance(layer, nn.Linear) else fuse_conv_bn_weights
        weight, bias = fuse(
            layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps,
            norm.weight, norm.bias,
        )  # fmt: skip
        layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
        bypass(norm)


def bypass(module: nn.Module) -> None:
    """Let a module of the scan's own hand on what it is given."""
    module.forward = _same


def _same(x: Tensor) -> Tensor:
    return x


def is_folded(module: nn.Module) -> bool:
    """Return whether `fold` made this module do nothing."""
    return module.__dict__.get("forward") is _same
