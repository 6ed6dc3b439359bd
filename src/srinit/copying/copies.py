"""A copy of a network that computes the same, shares no state with it, and brings no observers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.copying.check import check_behavior, check_references
from srinit.copying.hooks import Hook, computing, without_observers
from srinit.errors import ModelError
from srinit.rng import isolated_rng
from srinit.state import check_initialized, held_by, is_uninitialized

Pairs = list[tuple[Tensor, Tensor]]


def detached_copy(
    model: nn.Module, inputs: object = None, *, shared: Callable[[Tensor], bool] | None = None
) -> tuple[nn.Module, Pairs]:
    """Return a deep copy of a network, and the pairs of (original, copied) parameters.

    Hooks that only observe stay behind, so that a forward of the copy reaches nothing of the
    caller's; those that compute (they return something, or write what they are given) come along.
    Gradients and the hooks of the backward pass stay behind. Networks of Hugging Face are told
    that their hooks are gone, so that the copy installs its own when it is asked for hidden states.

    The copy is searched for functions that refer to the original. Then both are run, and must
    answer alike; a forward of the copy must not read the original's parameters and buffers, and
    not write anything that the original holds.

    Args:
        model: The network; not touched.
        inputs: Example inputs. Without them the copy is searched, and not run.
        shared: Which parameters use the memory of the original's; buffers never do.

    Raises:
        ModelError: The network cannot be copied, or the copy is none; the message names the
            hook, function or attribute.
    """
    check_initialized(model)
    hooks = computing(model, inputs)
    with without_observers(model, hooks):
        result, pairs = _deep(model, shared)
    check_references(model, result)
    if inputs is not None:
        check_behavior(model, result, inputs, _left(model, hooks))
    return result, pairs


def detached_copy_again(
    model: nn.Module, *, shared: Callable[[Tensor], bool] | None = None
) -> tuple[nn.Module, Pairs]:
    """Return a copy of what `detached_copy` made, with all its hooks."""
    return _deep(model, shared)


def initialized(model: nn.Module, inputs: Any) -> nn.Module:
    """Return a network whose lazy parts have weights, of any value: a copy, or it itself.

    Raises:
        ModelError: It has lazy parts, and there are no inputs or it does not run on them.
    """
    if not is_uninitialized(model) or inputs is None:
        check_initialized(model)
        return model
    result, _ = _deep(model, None)
    try:
        with modules.eval_mode(result), isolated_rng(0), torch.no_grad():
            modules.call(result, inputs)
    except Exception as error:  # the network's own code may fail in any way
        raise ModelError(
            f"{type(model).__name__} has lazy parts, and does not run on inputs as the plan "
            f"describes them ({type(error).__name__}: {error}); run it once and pass it as base=."
        ) from error
    return result


def _deep(model: nn.Module, shared: Callable[[Tensor], bool] | None) -> tuple[nn.Module, Pairs]:
    memo: dict[int, Any] = {}
    for held in held_by(model):  # results of an earlier forward
        if isinstance(held.value, Tensor) and held.value.grad_fn is not None:
            memo[id(held.value)] = held.value.detach().clone()
    for parameter in model.parameters():
        if shared is not None and shared(parameter):
            memo[id(parameter)] = _alias(parameter)
    gradients = [(p, p.grad) for p in model.parameters() if p.grad is not None]
    try:
        for parameter, _ in gradients:
            parameter.grad = None
        result = copy.deepcopy(model, memo)
    except Exception as error:  # what a network holds may refuse in any way
        raise ModelError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {error}); remove "
            "what cannot be copied from it (open files, locks, processes) first."
        ) from error
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
    return result, [(p, memo[id(p)]) for p in model.parameters() if id(p) in memo]


def _alias(parameter: nn.Parameter) -> nn.Parameter:
    """Return another parameter on the same memory; the same one where a class has its own ways."""
    if type(parameter) is not nn.Parameter:
        return parameter
    return nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)


def _left(model: nn.Module, kept: Collection[Hook]) -> list[str]:
    known = {id(hook.function) for hook in kept}
    return [str(hook) for hook in Hook.of(model) if id(hook.function) not in known]
