"""How little a unit changes what flows through it: cosine similarity and linear CKA."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srinit.criteria.options import Batches, Options
from srinit.criteria.records import UnitScore
from srinit.criteria.streams import watch_streams
from srinit.evaluate.cka import biased_cka
from srinit.units.records import UnitMap

LEAST_EXAMPLES = 128  # before reading may stop
RESOLUTION = 0.01  # standard error of a score that is enough, in ranges of all scores

# B batch, P positions (tokens or pixels), C channels


def block_influence(
    model: nn.Module, units: UnitMap, data: Batches, options: Options
) -> Mapping[str, float | UnitScore | None]:
    """Return 1 minus the mean cosine between what enters and what leaves each unit.

    The cosine is taken at every token or pixel that is not padding. Where a unit changes the
    shape, what its shortcut hands on stands for what enters; where it is one addend of a sum, the
    others do. Reading stops where every unit's standard error is small beside what tells the units
    apart. Source: Men et al., ShortGPT, equation 1, https://arxiv.org/abs/2403.03853.
    """
    cosines: dict[str, _Cosines] = {}

    def seen(name: str, enters: Tensor, leaves: Tensor, real: Tensor | None) -> None:
        cosines.setdefault(name, _Cosines()).add(enters, leaves, real)

    def is_enough() -> bool:
        found = [each for each in cosines.values() if each.places]
        scores = [each.mean for each in found]
        spread = max(scores, default=0.0) - min(scores, default=0.0)
        return bool(found) and all(
            each.examples >= LEAST_EXAMPLES and each.error <= RESOLUTION * spread for each in found
        )

    problems = watch_streams(
        model, units, data, options, seen, "block influence", is_enough=is_enough
    )
    scores = {name: 1 - each.mean for name, each in cosines.items() if each.places}
    return {**scores, **problems}


@dataclass(slots=True)
class _Cosines:
    """Cosines of one unit, summed over places and, for their error, over examples' means."""

    total: float = 0.0
    places: int = 0
    examples: int = 0
    sum: float = 0.0
    squares: float = 0.0

    def add(self, enters: Tensor, leaves: Tensor, real: Tensor | None) -> None:
        """Add a batch's cosines, at real places."""
        cosine = F.cosine_similarity(enters, leaves, dim=2).double()
        weight = torch.ones_like(cosine) if real is None else real.to(cosine.dtype)
        cosine = torch.where(weight > 0, cosine, 0)
        by_example, count = cosine.sum(1), weight.sum(1)
        mean = (by_example / count.clamp_min(1))[count > 0]
        self.total += float(by_example.sum())
        self.places += int(count.sum())
        self.examples += len(mean)
        self.sum += float(mean.sum())
        self.squares += float(mean.square().sum())

    @property
    def mean(self) -> float:
        """Mean over places."""
        return self.total / self.places

    @property
    def error(self) -> float:
        """Standard error of the mean over examples."""
        mean = self.sum / self.examples
        variance = max(0.0, self.squares / self.examples - mean * mean)
        return math.sqrt(variance / self.examples)


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

    problems = watch_streams(model, units, data, options, seen, "CKA")
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
