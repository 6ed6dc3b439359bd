"""From which distribution every tensor of a unit is drawn again: one `Rule` a tensor.

Distributions of PyTorch's own modules are those of their `reset_parameters`, written down here
because drawing straight into a tensor is what makes thousands of draws cheap.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from srinit import modules
from srinit.errors import ReinitError
from srinit.records import record
from srinit.reinit.plain import plain_name
from srinit.rng import isolated_rng

Weights = Literal["kaiming", "own", "shuffle"]
Kind = Literal["normal", "uniform", "constant", "shuffle", "own"]

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
RNNS = (nn.RNNBase, nn.RNNCellBase)


@record
class Rule:
    """How one tensor of a unit is drawn."""

    module: str  # submodule of the unit that owns it; "" is the unit
    tensor: str  # name of the parameter or buffer in that submodule
    kind: Kind
    spread: float = 0.0  # standard deviation, bound of a uniform, or the constant
    mean: float = 0.0
    zero_row: int | None = None  # padding row of an embedding

    @property
    def name(self) -> str:
        """Qualified name in the unit."""
        return f"{self.module}.{self.tensor}" if self.module else self.tensor


def is_norm(module: nn.Module) -> bool:
    """Return whether `module` normalizes: PyTorch's own kinds, and others named so.

    A module of another library counts when its class name holds "Norm", it has no children, and
    its parameters are vectors.
    """
    if isinstance(module, NORMS):
        return True
    return (
        "norm" in type(module).__name__.lower()
        and not any(True for _ in module.children())
        and all(tensor.ndim <= 1 for tensor in module.parameters(recurse=False))
    )


def rules_of(unit: nn.Module, *, weights: Weights, norms: bool) -> tuple[Rule, ...]:
    """Return the rules that draw `unit` again, one for every tensor that changes.

    Args:
        unit: The unit, with its trained values.
        weights: "kaiming": normal with variance 2 / fan-in, https://arxiv.org/abs/1502.01852.
            "own": each module's own `reset_parameters`. "shuffle": the trained values of each
            tensor in another order.
        norms: Put normalization back to its start (weight 1, bias 0, statistics 0 and 1); False
            leaves it as trained.

    Raises:
        ReinitError: A parameter cannot be drawn (quantized, not materialized).
    """
    rules: list[Rule] = []
    for name, module in unit.named_modules():
        _check(name, module)
        if is_norm(module):
            if norms:
                rules.extend(_norm_rules(name, module))
        else:
            rules.extend(_module_rules(name, module, weights))
    return tuple(rules)


def _check(name: str, module: nn.Module) -> None:
    for key, tensor in module.named_parameters(recurse=False):
        place = f"{name}.{key}" if name else key
        if nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise ReinitError(
                f"{place!r} has no values yet (lazy or meta); run the model once, or load its "
                "weights, before the scan."
            )
        if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.is_quantized:
            raise ReinitError(
                f"{place!r} has dtype {tensor.dtype}, which cannot be drawn again; scan the "
                "model before it is quantized."
            )


def _norm_rules(name: str, module: nn.Module) -> Iterator[Rule]:
    known = isinstance(module, NORMS)
    for key, tensor in module.named_parameters(recurse=False):
        if known and key in ("weight", "bias"):
            yield Rule(module=name, tensor=key, kind="constant", spread=float(key == "weight"))
        else:
            yield from _moments(name, key, tensor)
    starts = {"running_mean": 0.0, "running_var": 1.0, "num_batches_tracked": 0.0}
    for key, _ in module.named_buffers(recurse=False):
        if isinstance(module, _NormBase) and key in starts:
            yield Rule(module=name, tensor=key, kind="constant", spread=starts[key])


def _module_rules(name: str, module: nn.Module, weights: Weights) -> Iterator[Rule]:
    for key, tensor in module.named_parameters(recurse=False):
        if weights == "shuffle":
            yield Rule(module=name, tensor=key, kind="shuffle")
        elif weights == "kaiming" and _is_weight(module, key, tensor):
            fan_in = tensor[0].numel()
            yield Rule(module=name, tensor=key, kind="normal", spread=math.sqrt(2 / fan_in))
        else:
            yield from _own(name, module, key, tensor)


def _is_weight(module: nn.Module, key: str, tensor: Tensor) -> bool:
    """Return whether the first dimension of `tensor` is an output channel."""
    key = plain_name(module, key)
    if isinstance(module, _ConvNd | nn.Linear | nn.Bilinear):
        return key == "weight"
    if isinstance(module, nn.MultiheadAttention):
        return key.endswith("_proj_weight")
    return isinstance(module, RNNS) and tensor.ndim >= 2


def _own(name: str, module: nn.Module, key: str, tensor: Tensor) -> Iterator[Rule]:
    """Yield the rule of the module's own initialization."""
    if isinstance(module, _ConvNd | nn.Linear) and plain_name(module, key) in ("weight", "bias"):
        weight = tensor if tensor.ndim > 1 else getattr(module, "weight", tensor)
        fan_in = weight[0].numel()
        yield _uniform(name, key, 1 / math.sqrt(max(fan_in, 1)))
    elif isinstance(module, nn.Bilinear):
        yield _uniform(name, key, 1 / math.sqrt(module.in1_features))
    elif isinstance(module, RNNS):
        yield _uniform(name, key, 1 / math.sqrt(module.hidden_size))
    elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
        row = module.padding_idx
        yield Rule(module=name, tensor=key, kind="normal", spread=1.0, zero_row=row)
    elif isinstance(module, nn.MultiheadAttention):
        yield from _attention(name, key, tensor)
    elif key in _reset_by(module):
        yield Rule(module=name, tensor=key, kind="own")
    else:
        yield from _moments(name, key, tensor)


def _reset_by(module: nn.Module) -> frozenset[str]:
    """Return the parameters that the module's own `reset_parameters` really sets.

    A layer whose weight is computed from others inherits one that sets the computed weight.
    """
    if not callable(getattr(module, "reset_parameters", None)):
        return frozenset()
    fresh = copy.deepcopy(module, modules.copies_of_computed(module)).cpu().float()
    own = dict(fresh.named_parameters(recurse=False))
    with isolated_rng(0), torch.no_grad():
        for tensor in own.values():
            tensor.fill_(torch.nan)
        try:
            fresh.reset_parameters()  # type: ignore[operator]
        except Exception:  # a stranger's code may fail in any way
            return frozenset()
    return frozenset(key for key in own if not fresh._parameters[key].isnan().any())  # type: ignore[union-attr]


def _attention(name: str, key: str, tensor: Tensor) -> Iterator[Rule]:
    if key in ("bias_k", "bias_v"):
        fan = tensor.shape[1] + tensor.shape[2]
        yield Rule(module=name, tensor=key, kind="normal", spread=math.sqrt(2 / fan))
    elif tensor.ndim == 2:
        yield _uniform(name, key, math.sqrt(6 / (tensor.shape[0] + tensor.shape[1])))
    else:
        yield Rule(module=name, tensor=key, kind="constant", spread=0.0)


def _uniform(name: str, key: str, bound: float) -> Rule:
    return Rule(module=name, tensor=key, kind="uniform", spread=bound)


def _moments(name: str, key: str, tensor: Tensor) -> Iterator[Rule]:
    """Yield a normal with the trained mean and spread: for parameters of unknown origin.

    A constant tensor has no spread to draw with, and is left as it is.
    """
    values = tensor.detach().double() if not tensor.is_complex() else tensor.detach().abs()
    spread = float(values.std(correction=0))
    if spread > 0:
        mean = 0.0 if tensor.is_complex() else float(values.mean())
        yield Rule(module=name, tensor=key, kind="normal", spread=spread, mean=mean)
