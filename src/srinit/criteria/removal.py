"""What the network loses without a unit: `removal_drop`, and how far its answers move."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from srinit import modules
from srinit.criteria.options import Batches, Options
from srinit.criteria.records import UnitScore
from srinit.criteria.without import Without
from srinit.engine import BatchOutcomes, score_batch
from srinit.evaluate.cka import biased_cka
from srinit.padding import places_of
from srinit.records import Interval
from srinit.stats.paired import mean_interval, tango_interval
from srinit.units.records import UnitMap

# B batch, C classes


def removal_drop(
    model: nn.Module, units: UnitMap, data: Batches, options: Options
) -> dict[str, UnitScore]:
    """Return the mean score lost when each unit is bypassed, nothing else changed.

    Paired example by example; the interval is Tango's where scores are right or wrong, Student's
    otherwise. The unpruned network's own score stands under the name "".
    """
    rows: dict[str, list[BatchOutcomes]] = {}
    bench = None
    for number, (inputs, target) in enumerate(data):
        bench = bench or Without(model, units, (inputs, target), options)
        goal = modules.to_device(target, options.device)
        for name, output in bench.outputs(inputs):
            rows.setdefault(name, []).append(score_batch(output, goal, options.scorer))
        if options.on_progress is not None:
            options.on_progress(number + 1, len(data), "removal drop")
    scores = {name: np.array(BatchOutcomes.joined(parts).scores) for name, parts in rows.items()}
    baseline = scores.pop("")
    found = {name: _drop(name, baseline, other, options) for name, other in scores.items()}
    problems = bench.problems if bench is not None else {}
    refused = {name: UnitScore(unit=name, score=None, reason=r) for name, r in problems.items()}
    return {"": UnitScore(unit="", score=float(baseline.mean())), **found, **refused}


def _drop(name: str, baseline: np.ndarray, other: np.ndarray, options: Options) -> UnitScore:
    lost = baseline - other
    if set(np.unique(np.concatenate([baseline, other]))) <= {0.0, 1.0}:
        down, up = int((lost > 0).sum()), int((lost < 0).sum())
        low, high = tango_interval(down, up, len(lost), options.confidence)
    else:
        low, high = mean_interval(lost, options.confidence)
    mean = float(lost.mean())
    interval = Interval(value=mean, low=low, high=high, confidence=options.confidence)
    return UnitScore(unit=name, score=mean, interval=interval)


def output_cka(
    model: nn.Module, units: UnitMap, data: Batches, options: Options
) -> Mapping[str, float | UnitScore | None]:
    """Return 1 minus the linear CKA of the network's outputs with and without each unit.

    What the network says at padded places is left out: they hold the mean of the other examples.
    Source: Pons et al., Effective Layer Pruning Through Similarity Metric Perspective,
    https://arxiv.org/abs/2405.17081, here with the outputs as representation.
    """
    outputs: dict[str, list[Tensor]] = {}
    masks: list[Tensor | None] = []
    bench = None
    for number, batch in enumerate(data):
        bench = bench or Without(model, units, batch, options)
        places = places_of(model, *batch)
        for name, output in bench.outputs(batch[0]):
            logits = modules.logits_of(output).float().cpu()
            outputs.setdefault(name, []).append(logits)
            if name == "":
                by_token = places is not None and logits.ndim == 3
                masks.append(places.among(tuple(logits.shape)) if by_token and places else None)
        if options.on_progress is not None:
            options.on_progress(number + 1, len(data), "output CKA")
    joined = {name: _without_padding(parts, masks) for name, parts in outputs.items()}
    baseline = joined.pop("")
    found = {name: 1 - biased_cka(baseline, other) for name, other in joined.items()}
    problems = bench.problems if bench is not None else {}
    refused = {name: UnitScore(unit=name, score=None, reason=r) for name, r in problems.items()}
    return {**found, **refused}


def _without_padding(parts: list[Tensor], masks: list[Tensor | None]) -> Tensor:
    """Return outputs of batches as (B, C), padded places with the mean of the real ones there."""
    outputs = torch.cat(parts)
    if all(mask is None for mask in masks):
        return outputs.flatten(1)
    real_BT = torch.cat(
        [
            torch.ones(part.shape[:2], dtype=torch.bool) if mask is None else mask.cpu()
            for part, mask in zip(parts, masks, strict=True)
        ]
    )
    weight_BT = real_BT[:, :, None]
    total_TV = torch.where(weight_BT, outputs, 0).sum(0)
    mean_TV = total_TV / real_BT.sum(0).clamp_min(1)[:, None]
    return torch.where(weight_BT, outputs, mean_TV).flatten(1)
