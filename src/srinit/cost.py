"""What a network costs on paper: parameters, FLOPs and bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from srinit import modules
from srinit.evaluate import inputs_of
from srinit.flops import Uncounted, custom_mapping
from srinit.records import record
from srinit.rng import isolated_rng


@record
class Cost:
    """What a network costs on paper; latency is measured elsewhere."""

    params: int  # a shared parameter counts once
    flops: int  # per example; one multiply-add counts 2
    size_bytes: int  # of parameters and buffers, as they are stored
    not_counted: tuple[str, ...] = ()  # operations whose arithmetic `flops` leaves out


def count_cost(model: nn.Module, inputs: modules.Inputs) -> Cost:
    """Return parameters, FLOPs per example and bytes of `model`.

    FLOPs are those of torch's `FlopCounterMode`: matrix products, convolutions and attention,
    one multiply-add counting 2; normalization, activations, look-ups and additions count nothing.
    What it has no rule for is counted by `srinit.flops` (recurrent layers, products with a vector,
    quantized linear maps) or named in `not_counted`. One forward pass in evaluation mode is counted
    and divided by the batch size. The model's modes and the global random state are as before.

    Args:
        model: Any module.
        inputs: A batch: a tensor, a tuple or list (arguments) or a dict (keywords).

    Example:
        >>> count_cost(nn.Linear(3, 2), torch.zeros(4, 3))
        Cost(params=8, flops=12, size_bytes=32, not_counted=())
    """
    from torch.utils.flop_counter import FlopCounterMode  # here: it imports triton

    inputs = inputs_of(inputs, model)
    counter = FlopCounterMode(display=False, custom_mapping=custom_mapping())
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    rng, attention, rest = isolated_rng(0), visible_attention(), Uncounted()
    with modules.untouched(model), torch.no_grad(), rng, attention, rest, counter:
        modules.call(model, inputs)
    stored = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return Cost(
        params=modules.count_params(model),
        flops=counter.get_total_flops() // max(modules.batch_size(inputs), 1),
        size_bytes=sum(tensor.numel() * tensor.element_size() for tensor in stored.values()),
        not_counted=tuple(sorted(rest.names)),
    )


class _NoModules:
    """Stands in for the counter's record of modules, of which only the total is wanted.

    Its hooks fail on models that give a view of a parameter to a module (CaiT's class token):
    within `no_grad` such a view says that it needs a gradient, and has no function for it.
    """

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


@contextmanager
def visible_attention() -> Iterator[None]:
    """Switch the fused path of `nn.TransformerEncoderLayer` off for a while.

    It computes a whole layer in one operation that hides the additions and products inside.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
