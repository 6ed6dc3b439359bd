"""Estimates normalization statistics again, right after a cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from srinit import modules
from srinit.distributed import ProcessGroup
from srinit.errors import DataError
from srinit.evaluate import BatchSplitter, batches_of
from srinit.state import check_initialized


def recalibrate(
    model: nn.Module,
    data: Iterable[tuple[Any, Any]],
    *,
    device: torch.device | str | None = None,
    ranks: ProcessGroup | None = None,
) -> bool:
    """Re-estimate the running statistics of batch normalization in `model`, in place.

    Every statistic becomes the plain average over the batches of `data`. Weights do not change;
    other modules stay in evaluation mode. Train flags and momenta are restored; when anything
    goes wrong, so are the statistics. Normalization in evaluation mode whose statistics no
    longer fit is the commonest silent loss after surgery.
    Source: Li et al., EagleEye, section 4 (adaptive batch normalization),
    https://arxiv.org/abs/2007.02491

    Args:
        model: The network after the cut; our copy, not the caller's original.
        data: Batches `(inputs, target)`, or dicts of inputs; targets are not used.
        device: Where the inputs go; by default to the device of the model.
        ranks: Processes that share the batches; all must call this, with all of them.

    Returns:
        False where there is nothing to estimate; the model is untouched then.

    Raises:
        DataError: No batch has two examples, or a statistic would not be finite.

    Example:
        >>> model = nn.BatchNorm1d(1).eval()
        >>> recalibrate(model, [(torch.tensor([[1.0], [3.0]]), None)])
        True
        >>> model.running_mean
        tensor([2.])
    """
    check_initialized(model)
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return False
    place = modules.device_of(model) if device is None else device
    momenta = [norm.momentum for norm in norms]
    kept = _statistics(norms)
    with modules.eval_mode(model), torch.no_grad(), _channels_last(model):
        try:
            for norm in norms:
                norm.momentum = None  # cumulative average
                norm.training = True
            _read(model, norms, data, place, ranks or ProcessGroup(alone=True))
        except BaseException:
            _restore(norms, kept)
            raise
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    return True


@contextmanager
def _channels_last(model: nn.Module) -> Iterator[None]:
    """Lay the weights of convolutions out with channels last for a while: a CPU is faster then."""
    kept = []
    try:
        for module in model.modules():
            if type(module) is nn.Conv2d and module.weight.device.type == "cpu":
                kept.append((module.weight, module.weight.data))
                module.weight.data = module.weight.data.contiguous(
                    memory_format=torch.channels_last
                )
        yield
    finally:
        for weight, data in reversed(kept):  # a shared one was kept twice
            weight.data = data


def _statistics(norms: list[_BatchNorm]) -> list[Tensor]:
    return [value.clone() for norm in norms for value in norm.buffers()]


def _restore(norms: list[_BatchNorm], kept: list[Tensor]) -> None:
    for value, before in zip((b for norm in norms for b in norm.buffers()), kept, strict=True):
        value.copy_(before)


def _read(
    model: nn.Module,
    norms: list[_BatchNorm],
    data: Iterable[tuple[Any, Any]],
    place: torch.device | str,
    ranks: ProcessGroup,
) -> None:
    """Give every normalization the average of its statistics of all batches.

    In training normalization does not read its running statistics, so that those of a batch do
    not depend on the batches before.
    """
    found: dict[int, Tensor] = {}
    parts = BatchSplitter(place, least=2)

    def read(inputs: object) -> Tensor:
        for norm in norms:
            norm.reset_running_stats()
        modules.call(model, modules.to_device(inputs, place))
        return torch.cat([part for norm in norms for part in _calls_and_sums(norm)])

    def read_all() -> int:
        count = 0
        for inputs, _ in batches_of(data, model):
            if modules.batch_size(inputs) > 1:
                if count % ranks.count == ranks.rank:
                    found[count] = torch.stack(parts.run(read, inputs)).sum(0)
                count += 1
        return count

    several = ranks.together(read_all)
    if several:
        sizes = [1 + 2 * norm.num_features for norm in norms]
        whole = torch.stack(ranks.in_order(found, sum(sizes), several)).sum(0)
        for norm, sums in zip(norms, torch.split(whole, sizes), strict=True):
            _take(norm, sums)
    check_statistics(several, [value for norm in norms for value in norm.buffers()])


def _calls_and_sums(norm: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return how often a normalization was called, and the sums of its statistics, in float64."""
    calls, *found = (
        value.detach().cpu().double()
        for value in (norm.num_batches_tracked.reshape(1), norm.running_mean, norm.running_var)
    )
    return calls, found[0] * calls, found[1] * calls


def _take(norm: Any, sums: Tensor) -> None:
    """Give a normalization the average of the statistics of its calls."""
    norm.reset_running_stats()
    calls = sums[0]
    if calls > 0:
        mean, variance = (sums[1:] / calls).chunk(2)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.num_batches_tracked.copy_(calls)


def check_statistics(batches: int, statistics: Iterable[Tensor]) -> None:
    """Raise `DataError` where normalization could not be estimated.

    Args:
        batches: How many it was estimated on.
        statistics: What came out.
    """
    if batches == 0:
        raise DataError(
            "normalization cannot be recalibrated: no batch holds two examples. "
            "Give more calibration data, or set prune.recalibrate: false."
        )
    if not all(bool(torch.isfinite(value).all()) for value in statistics):
        raise DataError(
            "normalization cannot be recalibrated: the calibration data lead to NaN or infinity. "
            "Look for damaged examples, or set prune.recalibrate: false."
        )
