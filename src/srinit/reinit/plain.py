"""Weights that are computed from other parameters, made plain in a private copy.

Weight and spectral normalization compute a layer's weight before every call, from parameters of
another shape or with numbers that fit the trained values alone. What is drawn again is the weight
that the layer computes with.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

MASKED = "_orig"  # torch.nn.utils.prune keeps "weight" as "weight_orig", times a mask


def make_plain(unit: nn.Module) -> bool:
    """Give layers, in place, the weights that they compute as parameters; return if any had some.

    Masks of `torch.nn.utils.prune` stay: what they zero is the layer's shape.

    Example:
        >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
        >>> make_plain(layer), [name for name, _ in layer.named_parameters()]
        (True, ['weight', 'bias'])
    """
    changed = False
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old kinds are deprecated, not wrong
        for module in unit.modules():
            if parametrize.is_parametrized(module):
                _unparametrize(module)
                changed = True
            for hook in list(module._forward_pre_hooks.values()):
                changed |= _removed(module, hook)
    return changed


def _unparametrize(module: nn.Module) -> None:
    """Undo `torch.nn.utils.parametrize` for a copy alone.

    PyTorch's own function takes the property off the class, which the original shares.
    """
    lists: Any = module.parametrizations
    values = {name: getattr(module, name).detach().clone() for name in lists}
    buffers = {name for name, found in lists.items() if next(found.parameters(False), None) is None}
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for name, value in values.items():
        if name in buffers:
            module.register_buffer(name, value)
        else:
            module.register_parameter(name, nn.Parameter(value, requires_grad=False))
            _to_the_front(module, name)


def _removed(module: nn.Module, hook: object) -> bool:
    if isinstance(hook, WeightNorm):
        remove_weight_norm(module, hook.name)
    elif isinstance(hook, SpectralNorm):
        remove_spectral_norm(module, hook.name)
    else:
        return False
    _to_the_front(module, hook.name)
    return True


def _to_the_front(module: nn.Module, name: str) -> None:
    """Let a parameter come first, as in the layer before: noise is drawn in this order."""
    own = module._parameters
    for key in [key for key in own if key != name]:
        own[key] = own.pop(key)


def plain_name(module: nn.Module, key: str) -> str:
    """Return what a parameter stands for: "weight" for the "weight_orig" of a pruned layer."""
    short = key.removesuffix(MASKED)
    hooks = module._forward_pre_hooks.values()
    masked = any(
        isinstance(hook, BasePruningMethod) and hook._tensor_name == short for hook in hooks
    )
    return short if masked else key


@contextmanager
def forgetting(unit: nn.Module) -> Iterator[None]:
    """Put a private copy into training while its weights change.

    Some modules keep what they computed from their weights until they are trained again.
    """
    flags = [(module, module.training) for module in unit.modules()]
    if all(type(module).train is nn.Module.train for module, _ in flags):
        yield
        return
    unit.train()
    try:
        yield
    finally:
        unit.train(flags[0][1])
        for module, flag in flags:
            module.training = flag
