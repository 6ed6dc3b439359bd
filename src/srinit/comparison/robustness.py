"""How both networks fare on images that are noisier, darker or coarser than those of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from srinit.comparison.corruptions import CORRUPTIONS, SEVERITIES, Corruption, find_corruptions
from srinit.comparison.paired import compare_outcomes
from srinit.comparison.records import Drop
from srinit.distributed import ProcessGroup
from srinit.errors import ConfigError, DataError
from srinit.evaluate import Outcomes, Scorer, evaluate, top1
from srinit.records import Interval, of_plain, plain, record
from srinit.rng import isolated_rng, seed_for
from srinit.stats import paired
from srinit.store import csv_text

# N images, C channels, H W space

Progress = Callable[[int, int], None]
ALPHA = 0.05


@record
class CorruptionPoint:
    """Both networks on images with one corruption at one severity."""

    corruption: str
    severity: int  # from 1 to 5
    score: Drop  # what is lost there, from baseline to pruned
    excess: Interval  # what is lost there beyond what is lost on clean images, paired
    p_value: float  # exact McNemar, that the networks differ there
    p_adjusted: float  # Holm over all points
    family: Interval  # that of `score` which holds for all points together


@record
class CorruptionRobustness:
    """The change, pruned against baseline, under shift and noise."""

    num_examples: int
    confidence: float  # of every interval, each for itself
    clean: Drop
    points: tuple[CorruptionPoint, ...]
    seed: int

    @property
    def worst(self) -> CorruptionPoint | None:
        """The point at which the pruned network loses most."""
        return max(self.points, key=lambda point: point.score.drop or 0.0, default=None)

    @property
    def worst_bound(self) -> CorruptionPoint | None:
        """The point whose loss may be largest, by the intervals that hold together."""
        return max(self.points, key=lambda point: point.family.high, default=None)

    @property
    def significant(self) -> tuple[CorruptionPoint, ...]:
        """Points at which the pruned network is worse, at 5 % over the whole family."""
        return tuple(
            point
            for point in self.points
            if point.p_adjusted <= ALPHA and (point.score.drop or 0.0) > 0
        )


def measure_robustness(
    baseline: nn.Module,
    pruned: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    to_inputs: Callable[[Tensor], Any],
    corruptions: Mapping[str, Corruption | None] | Sequence[str] = (),
    severities: Sequence[int] = SEVERITIES,
    ids: Sequence[str] = (),
    scorer: Scorer = top1,
    batch_size: int = 64,
    confidence: float = 0.95,
    seed: int = 0,
    ranks: ProcessGroup | None = None,
    on_progress: Progress | None = None,
) -> CorruptionRobustness:
    """Return what corruptions change, both networks on the same corrupted images.

    Args:
        baseline: The unpruned network; neither is changed.
        pruned: The pruned one.
        images: Bytes (N, C, H, W), in the size that the networks take, before normalization.
        targets: (N,) class indices, or what `scorer` takes.
        to_inputs: Normalization, from bytes (B, C, H, W) to inputs.
        corruptions: Names, or names with functions of your own `(image, severity) -> image`;
            empty: all of `CORRUPTIONS`.
        severities: From 1 to 5.
        ids: What tells images apart; noise on an image depends on it, and not on its place.
        scorer: Score per example in [0, 1].
        batch_size: Of both networks.
        confidence: Of every interval.
        seed: Of noise and places.
        ranks: Processes that share the points; all of them must call this, and get the same.
        on_progress: Called with (points done, points in all).

    Raises:
        ConfigError: An unknown corruption or severity, or one that returns another kind of image.
        DataError: There are no images.

    Example:
        >>> import torch
        >>> images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
        >>> found = measure_robustness(net, net, images, torch.tensor([0, 1, 0, 1]),
        ...     to_inputs=lambda x: x.float() / 255, corruptions=["brightness"], severities=[1, 5])
        >>> [(p.corruption, p.severity, p.score.drop) for p in found.points]
        [('brightness', 1, 0.0), ('brightness', 5, 0.0)]
    """
    if len(images) == 0:
        raise DataError("shift is measured on images, and there are none.")
    wrong = [value for value in severities if value not in SEVERITIES]
    if wrong:
        raise ConfigError(f"severities go from 1 to 5, not {wrong[0]}.")
    named = corruptions if isinstance(corruptions, Mapping) else dict.fromkeys(corruptions)
    chosen = find_corruptions(named or dict.fromkeys(CORRUPTIONS))
    names = tuple(ids) or tuple(map(str, range(len(images))))

    ranks = ranks or ProcessGroup(alone=True)

    def both(changed: Tensor) -> tuple[Outcomes, Outcomes]:
        def batches() -> Iterator[tuple[Any, Tensor]]:
            for begin in range(0, len(changed), batch_size):
                rows = slice(begin, begin + batch_size)
                yield to_inputs(changed[rows]), targets[rows]

        return (
            evaluate(baseline, batches(), scorer=scorer),
            evaluate(pruned, batches(), scorer=scorer),
        )

    clean = both(images)
    total = len(chosen) * len(severities)
    together = 1 - (1 - confidence) / max(total, 1)  # Bonferroni
    places = [(*pair, severity) for pair in chosen.items() for severity in severities]

    def points() -> list[dict[str, Any]]:
        found = []
        for number, (name, function, severity) in ranks.mine(places):
            changed = corrupted(images, function, severity, name=name, ids=names, seed=seed)
            point = _point(name, severity, clean, both(changed), confidence, together)
            found.append(plain(point))
            if on_progress is not None:
                on_progress(min(number + ranks.count, total), total)
        return found

    parts = ranks.gather(ranks.together(points))
    found = [
        of_plain(CorruptionPoint, parts[number % ranks.count][number // ranks.count])
        for number in range(total)
    ]
    adjusted = paired.holm([point.p_value for point in found])
    return CorruptionRobustness(
        num_examples=len(images),
        confidence=confidence,
        clean=compare_outcomes(*clean, confidence=confidence).score,
        points=tuple(
            replace(point, p_adjusted=p_adjusted)
            for point, p_adjusted in zip(found, adjusted, strict=True)
        ),
        seed=seed,
    )


def _point(
    name: str,
    severity: int,
    clean: tuple[Outcomes, Outcomes],
    changed: tuple[Outcomes, Outcomes],
    confidence: float,
    together: float,
) -> CorruptionPoint:
    """Return one point, its p-value not corrected yet; `together` is of the family's interval."""
    compared = compare_outcomes(*changed, confidence=confidence)
    family = compare_outcomes(*changed, confidence=together).score
    p_value = 1.0 if compared.p_value is None else compared.p_value
    return CorruptionPoint(
        corruption=name,
        severity=severity,
        score=compared.score,
        excess=_excess(clean, changed, confidence),
        p_value=p_value,
        p_adjusted=p_value,
        family=Interval(value=family.value, low=family.low, high=family.high, confidence=together),
    )


def corrupted(
    images: Tensor,
    function: Corruption,
    severity: int,
    *,
    name: str,
    ids: Sequence[str],
    seed: int = 0,
) -> Tensor:
    """Return corrupted images; what is random depends on seed, corruption, severity and id.

    Raises:
        ConfigError: The function returns another kind of image.
    """
    found = []
    for image, key in zip(images, ids, strict=True):
        with isolated_rng(seed_for("corruption", seed, name, severity, key)):
            changed = function(image.clone(), severity)
        if not isinstance(changed, Tensor) or (changed.shape, changed.dtype) != (
            image.shape,
            image.dtype,
        ):
            what = (
                f"{tuple(changed.shape)} {changed.dtype}"
                if isinstance(changed, Tensor)
                else type(changed).__name__
            )
            raise ConfigError(
                f"the corruption {name!r} should return an image {tuple(image.shape)} "
                f"{image.dtype}, found {what}."
            )
        found.append(changed)
    stacked: Tensor = images.new_empty(images.shape)
    for place, image in zip(stacked, found, strict=True):
        place.copy_(image)
    return stacked


def robustness_csv(shift: CorruptionRobustness) -> str:
    """Return the table, one point a row."""
    head = ("corruption", "severity", "baseline", "pruned", "drop", "low", "high")
    family = ("family_low", "family_high", "excess", "excess_low", "excess_high")
    rows = (
        (
            p.corruption, p.severity, p.score.baseline, p.score.pruned, p.score.drop, p.score.low,
            p.score.high, p.family.low, p.family.high, p.excess.value, p.excess.low, p.excess.high,
            p.p_value, p.p_adjusted,
        )
        for p in shift.points
    )  # fmt: skip
    return csv_text((*head, *family, "p_value", "p_adjusted"), rows)


def _excess(
    clean: tuple[Outcomes, Outcomes], changed: tuple[Outcomes, Outcomes], confidence: float
) -> Interval:
    """Return what the corruption adds to the loss of the clean images."""
    loss_clean: npt.NDArray[np.float64] = clean[0].scores - clean[1].scores
    loss = changed[0].scores - changed[1].scores
    added = loss - loss_clean
    low, high = paired.mean_interval(added, confidence)
    return Interval(value=float(added.mean()), low=low, high=high, confidence=confidence)
