"""What the network loses without a unit: `removal_drop`, and how far its answers move."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from srinit import modules
from srinit.criteria.options import Batches, Options
from srinit.criteria.records import UnitScore
from srinit.criteria.similarity import linear_cka
from srinit.criteria.without import Without
from srinit.sensitivity.outcomes import Rows, rows_of
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
    rows: dict[str, list[Rows]] = {}
    bench = None
    for number, (inputs, target) in enumerate(data):
        bench = bench or Without(model, units, (inputs, target), options)
        goal = modules.to_device(target, options.device)
        for name, output in bench.outputs(inputs):
            rows.setdefault(name, []).append(rows_of(output, goal, options.scorer))
        if options.on_progress is not None:
            options.on_progress(number + 1, len(data), "removal drop")
    scores = {name: np.array(Rows.joined(parts).scores) for name, parts in rows.items()}
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
    return UnitScore(unit=name, score=float(lost.mean()), low=low, high=high)


def output_cka(
    model: nn.Module, units: UnitMap, data: Batches, options: Options
) -> Mapping[str, float | UnitScore | None]:
    """Return 1 minus the linear CKA of the network's outputs with and without each unit.

    Source: Pons et al., Effective Layer Pruning Through Similarity Metric Perspective,
    https://arxiv.org/abs/2405.17081, here with the outputs as representation.
    """
    outputs: dict[str, list[Tensor]] = {}
    bench = None
    for number, batch in enumerate(data):
        bench = bench or Without(model, units, batch, options)
        for name, output in bench.outputs(batch[0]):
            logits_BC = modules.logits_of(output).float().flatten(1)
            outputs.setdefault(name, []).append(logits_BC.cpu())
        if options.on_progress is not None:
            options.on_progress(number + 1, len(data), "output CKA")
    joined = {name: torch.cat(parts) for name, parts in outputs.items()}
    baseline = joined.pop("")
    return {name: 1 - linear_cka(baseline, other) for name, other in joined.items()}
