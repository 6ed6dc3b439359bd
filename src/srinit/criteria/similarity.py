"""How little a unit changes what flows through it: cosine similarity and linear CKA."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srinit.criteria.options import Batches, Options
from srinit.criteria.records import UnitScore
from srinit.criteria.streams import watch
from srinit.evaluate.cka import biased_cka
from srinit.units.records import UnitMap

# B batch, P positions (tokens or pixels), C channels


def block_influence(
    model: nn.Module, units: UnitMap, data: Batches, options: Options
) -> Mapping[str, float | UnitScore | None]:
    """Return 1 minus the mean cosine between what enters and what leaves each unit.

    The cosine is taken at every token or pixel that is not padding. Where a unit changes the
    shape, what its shortcut hands on stands for what enters; where it is one addend of a sum, the
    others do. Source: Men et al., ShortGPT, equation 1, https://arxiv.org/abs/2403.03853.
    """
    sums: dict[str, list[float]] = {}

    def seen(name: str, enters: Tensor, leaves: Tensor, real: Tensor | None) -> None:
        cosine = F.cosine_similarity(enters, leaves, dim=2)
        cosine = cosine if real is None else cosine[real]
        entry = sums.setdefault(name, [0.0, 0.0])
        entry[0] += float(cosine.double().sum())
        entry[1] += cosine.numel()

    problems = watch(model, units, data, options, seen, "block influence")
    found = {name: 1 - total / count for name, (total, count) in sums.items() if count}
    return {**found, **problems}


def cka(
    model: nn.Module, units: UnitMap, data: Batches, options: Options
) -> Mapping[str, float | UnitScore | None]:
    """Return 1 minus the linear CKA of what enters and what leaves each unit.

    Features are the means over tokens or pixels that are not padding. Source: Kornblith et al.,
    Similarity of Neural Network Representations Revisited, equation 1 with the linear kernel,
    https://arxiv.org/abs/1905.00414.
    """
    kept: dict[str, tuple[list[Tensor], list[Tensor]]] = {}

    def seen(name: str, enters: Tensor, leaves: Tensor, real: Tensor | None) -> None:
        before, after = kept.setdefault(name, ([], []))
        before.append(_mean(enters, real).cpu())
        after.append(_mean(leaves, real).cpu())

    problems = watch(model, units, data, options, seen, "CKA")
    scores = {name: 1 - biased_cka(torch.cat(b), torch.cat(a)) for name, (b, a) in kept.items()}
    return {**scores, **problems}


def _mean(stream: Tensor, real: Tensor | None) -> Tensor:
    """Return the mean over the real places (B', C) of the examples that have some."""
    if real is None:
        return stream.mean(1)
    weight_BP = real.to(stream.dtype)
    count_B = weight_BP.sum(1)
    some = count_B > 0
    # where, not a product: padded places may hold NaN
    total = torch.where(real[:, :, None], stream, 0).sum(1)
    return total[some] / count_B[some, None]
