"""Taylor's criterion: how much the loss would change without each weight, to first order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.criteria.options import Batches, Options
from srinit.criteria.records import UnitScore
from srinit.criteria.weights import parameters_of
from srinit.evaluate import BatchSplitter, Loss, loss_for
from srinit.evaluate.losses import checked
from srinit.padding import IGNORED
from srinit.units.records import UnitMap

KEPT_BYTES = 1 << 30  # what a backward pass may keep of a forward, on a CPU
KEPT_SHARE = 2  # on a GPU: of the memory that is free, one part in so many


def taylor(
    model: nn.Module, units: UnitMap, data: Batches, options: Options
) -> Mapping[str, float | UnitScore | None]:
    """Return the sum over each unit's weights of |gradient x weight|, the mean over batches.

    A batch whose forward pass would keep too much for the backward pass is worked through in
    parts, whose gradients are added up. Source: Molchanov et al., Importance Estimation for Neural
    Network Pruning, equation 8 with absolute values, https://arxiv.org/abs/1906.10771.

    Raises:
        ResourceError: Memory does not even suffice for one example.
    """
    groups = {unit.name: parameters_of(model, unit) for unit in units}
    flat = list(dict.fromkeys(weight for weights in groups.values() for weight in weights))
    model.requires_grad_(False)
    for weight in flat:
        weight.requires_grad_(weight.is_floating_point() or weight.is_complex())
    totals = dict.fromkeys(groups, 0.0)
    loss = checked(options.loss or loss_for(options.scorer))
    count, parts = 0, BatchSplitter(options.device)
    for batch in data:
        placed = modules.to_device(batch, options.device)
        if count == 0:
            parts.limit = _fitting(model, placed, loss, options.device)
        _leave_gradients(model, placed, loss, parts, flat)
        for name, weights in groups.items():
            totals[name] += sum(_product(weight) for weight in weights)
        _clear(flat)
        count += 1
        if options.on_progress is not None:
            options.on_progress(count, len(data), "Taylor")
    return {name: total / count for name, total in totals.items()}


def _leave_gradients(
    model: nn.Module,
    batch: object,
    loss: Loss,
    parts: BatchSplitter,
    weights: Sequence[nn.Parameter],
) -> None:
    """Add the gradients of the batch's mean loss up in `weights`."""
    whole = _scored(batch)

    def backward(part: Any) -> None:
        inputs, target = part
        share = _scored(part) / whole if whole else 0.0
        if share == 0:  # nothing in it is scored
            return
        with torch.enable_grad():
            value = loss(modules.call(model, inputs), target) * share
            if value.requires_grad:
                value.backward()  # type: ignore[no-untyped-call]

    parts.run(backward, batch, again=lambda: _clear(weights))


def _scored(batch: Any) -> int:
    """Return how many losses a batch is the mean of: its scored tokens, or its examples."""
    inputs, target = batch
    by_token = isinstance(target, Tensor) and target.ndim > 1 and not target.is_floating_point()
    return int(target.ne(IGNORED).sum()) if by_token else modules.batch_size(inputs)


def _product(weight: nn.Parameter) -> float:
    if weight.grad is None:
        return 0.0
    return float((weight.grad * weight.detach()).abs().double().sum())


def _clear(weights: Iterable[nn.Parameter]) -> None:
    for weight in weights:
        weight.grad = None


def _fitting(model: nn.Module, batch: object, loss: Loss, device: torch.device) -> int:
    """Return for how many examples a forward pass keeps no more than it may."""
    on_gpu = device.type == "cuda"
    room = torch.cuda.mem_get_info(device)[0] // KEPT_SHARE if on_gpu else KEPT_BYTES
    one = BatchSplitter(device, limit=1)
    kept = one.run(lambda part: _kept_bytes(model, part, loss), next(one.split(batch)))
    return max(room // max(*kept, 1), 1)


def _kept_bytes(model: nn.Module, batch: Any, loss: Loss) -> int:
    """Return how much a forward pass keeps for the backward pass, beside the model itself."""
    inputs, target = batch
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with torch.enable_grad(), hooks:
        loss(modules.call(model, inputs), target)
    return sum(kept.values())
