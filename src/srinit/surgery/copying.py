"""A copy of a network that shares nothing with it, and brings no observers along."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from srinit.errors import SurgeryError
from srinit.rng import generator

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
)
MARKS = ("_output_capturing_hooks_installed",)  # Hugging Face: hooks that collect hidden states
SHAKE = 0.02  # spread of the noise that tells zero-initialized layers apart


def copied(model: nn.Module) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """Return a deep copy of a network, and the pairs of (original, copied) parameters.

    Hooks that only observe stay behind, so that a forward of the copy reaches nothing of the
    caller's; those of `torch.nn.utils` (weight normalization, pruning masks) are part of the
    computation and come along. Gradients stay behind. Networks of Hugging Face are told that their
    hooks are gone, so that the copy installs its own when it is asked for hidden states.

    Raises:
        SurgeryError: The network holds something that cannot be copied.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():  # results of an earlier forward kept as attributes
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
    gradients = [(p, p.grad) for p in model.parameters() if p.grad is not None]
    try:
        for parameter, _ in gradients:
            parameter.grad = None
        with _without_observers(model):
            result = copy.deepcopy(model, memo)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise SurgeryError(
            f"{type(model).__name__} cannot be copied: {type(error).__name__}: {error}"
        ) from error
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
    pairs: list[tuple[Tensor, Tensor]] = [
        (p, memo[id(p)]) for p in model.parameters() if id(p) in memo
    ]
    return result, pairs


@contextmanager
def _without_observers(model: nn.Module) -> Iterator[None]:
    before: list[tuple[nn.Module, str, Any]] = []
    try:
        for module in model.modules():
            for mark in MARKS:
                if mark in module.__dict__:
                    before.append((module, mark, module.__dict__.pop(mark)))
            for table in HOOKS:
                hooks = module.__dict__.get(table)
                if hooks:
                    before.append((module, table, hooks))
                    kept = {key: hook for key, hook in hooks.items() if _computes(hook)}
                    module.__dict__[table] = OrderedDict(kept)
        yield
    finally:
        for module, table, hooks in before:
            module.__dict__[table] = hooks


def _computes(hook: Callable[..., Any] | bool) -> bool:
    """Tell whether a hook is part of the computation: one of torch's own parametrizations."""
    function = getattr(hook, "__func__", hook)
    home = getattr(function, "__module__", None) or type(hook).__module__
    return str(home).startswith("torch.nn.utils") or isinstance(hook, bool)


@contextmanager
def shaken(pairs: list[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Add noise to a copy's parameters for a while, so that no layer is without effect.

    Layers that start at zero make wrong networks look right; with noise they differ.

    Args:
        pairs: (original, copied) parameters; the copies get the original's values back.
    """
    noise = generator("shaken")
    with torch.no_grad():
        for _, ours in pairs:
            if ours.dtype.is_floating_point and not ours.is_meta:
                draw = torch.randn(ours.shape, generator=noise) * SHAKE
                ours.add_(draw.to(ours.device, ours.dtype))
    try:
        yield
    finally:
        with torch.no_grad():
            for theirs, ours in pairs:
                ours.copy_(theirs)
