"""How little a unit changes what flows through it: cosine similarity and linear CKA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

from srinit import modules
from srinit.arguments import copied
from srinit.criteria.options import Batches, Options
from srinit.criteria.records import UnitScore
from srinit.errors import SurgeryError
from srinit.units.bypass import replacements, site_of
from srinit.units.records import Unit, UnitMap

# B batch, P positions (tokens or pixels), C channels

Seen = Callable[[str, Tensor, Tensor], None]  # unit, stream without it, stream with it: (B, P, C)


def block_influence(
    model: nn.Module, units: UnitMap, data: Batches, options: Options
) -> Mapping[str, float | UnitScore | None]:
    """Return 1 minus the mean cosine between what enters and what leaves each unit.

    The cosine is taken at every token or pixel. Where a unit changes the shape, what its shortcut
    hands on stands for what enters. Source: Men et al., ShortGPT, equation 1,
    https://arxiv.org/abs/2403.03853.
    """
    sums: dict[str, list[float]] = {}

    def seen(name: str, enters: Tensor, leaves: Tensor) -> None:
        cosine_BP = F.cosine_similarity(enters, leaves, dim=2)
        entry = sums.setdefault(name, [0.0, 0.0])
        entry[0] += float(cosine_BP.double().sum())
        entry[1] += cosine_BP.numel()

    problems = _watch(model, units, data, options, seen, "block influence")
    return {**{name: 1 - total / count for name, (total, count) in sums.items()}, **problems}


def cka(
    model: nn.Module, units: UnitMap, data: Batches, options: Options
) -> Mapping[str, float | UnitScore | None]:
    """Return 1 minus the linear CKA of what enters and what leaves each unit.

    Features are the means over tokens or pixels. Source: Kornblith et al., Similarity of Neural
    Network Representations Revisited, equation 1 with the linear kernel,
    https://arxiv.org/abs/1905.00414.
    """
    kept: dict[str, tuple[list[Tensor], list[Tensor]]] = {}

    def seen(name: str, enters: Tensor, leaves: Tensor) -> None:
        before, after = kept.setdefault(name, ([], []))
        before.append(enters.mean(1).cpu())
        after.append(leaves.mean(1).cpu())

    problems = _watch(model, units, data, options, seen, "CKA")
    scores = {name: 1 - linear_cka(torch.cat(b), torch.cat(a)) for name, (b, a) in kept.items()}
    return {**scores, **problems}


def linear_cka(one: Tensor, other: Tensor) -> float:
    """Return the linear CKA of two representations (B, C) and (B, C') of the same examples.

    In [0, 1]; 1 up to rotation and scale. A representation that never varies gives 0 with any
    other, and 1 with one that never varies either.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 5.0]])
        >>> round(linear_cka(x, 3 * x.flip(1)), 6)
        1.0
    """
    one, other = one.double(), other.double()
    one, other = one - one.mean(0), other - other.mean(0)
    cross = float((other.T @ one).square().sum())
    size = float((one.T @ one).norm() * (other.T @ other).norm())
    if size == 0:
        return float(not one.any() and not other.any())
    return min(1.0, cross / size)


def _watch(
    model: nn.Module, units: UnitMap, data: Batches, options: Options, seen: Seen, note: str
) -> dict[str, UnitScore]:
    """Call `seen` for every unit and batch; return the units that cannot be watched."""
    problems: dict[str, UnitScore] = {}
    with ExitStack() as stack:
        for unit in units:
            try:
                stack.enter_context(_watched(model, unit, seen))
            except SurgeryError as error:
                problems[unit.name] = UnitScore(unit=unit.name, score=None, reason=str(error))
        for number, (inputs, _) in enumerate(data):
            with torch.no_grad():
                modules.call(model, modules.to_device(inputs, options.device))
            if options.on_progress is not None:
                options.on_progress(number + 1, len(data), note)
    return problems


@contextmanager
def _watched(model: nn.Module, unit: Unit, seen: Seen) -> Iterator[None]:
    """Compare a unit's output with that of its stand-in at every call, for a while."""
    site = site_of(unit)
    if not site:
        raise SurgeryError("the network's own forward executes the addition; nothing to watch.")
    stand = dict(replacements(model, unit))[site]
    module = model.get_submodule(site)
    first = any(isinstance(part, _ConvNd) for part in module.modules())
    before: list[Tensor] = []

    def enters(_: nn.Module, args: Any, kwargs: Any) -> None:
        # Copies: the stand-in may fill a cache, and what follows may write over the stream.
        given, named = copied((args, kwargs), model)
        before.append(_stream(stand(*given, **named)))

    def leaves(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        without, after = before.pop(), _stream(output)
        if without.shape == after.shape:
            seen(unit.name, _positions(without, first=first), _positions(after, first=first))

    handles = [
        module.register_forward_pre_hook(enters, with_kwargs=True),
        module.register_forward_hook(leaves, with_kwargs=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _stream(output: Any) -> Tensor:
    found: Tensor = next(modules.tensors(output))
    return found.detach()


def _positions(stream: Tensor, *, first: bool) -> Tensor:
    """Return a stream as (B, P, C); `first`: channels stand in dimension 1, as convolutions do."""
    stream = stream.float()
    if stream.ndim <= 2:
        return stream.reshape(len(stream), 1, -1)
    if first:
        stream = stream.movedim(1, -1)
    return stream.flatten(1, -2)
