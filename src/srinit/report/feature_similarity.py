"""The pruned network beside the baseline: the stream at the cuts, features, similarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import nn

from srinit import modules
from srinit.errors import DataError, ModelError
from srinit.evaluate.cka import unbiased_cka
from srinit.plan import PrunePlan
from srinit.report import features, images
from srinit.report.explain import square
from srinit.report.samples import inputs_of, spread
from srinit.runs.pictures import CutPoint, Projection, Similarity
from srinit.sensitivity.records import Sensitivity
from srinit.sources import DataSet
from srinit.units.records import LockedUnit, Unit

NUM_FEATURES = 256  # examples behind projection and similarity
BATCH = 32


def compare_features(
    baseline: nn.Module,
    pruned: nn.Module,
    plan: PrunePlan,
    sensitivity: Sensitivity,
    data: DataSet,
    missing: list[str],
) -> tuple[Projection | None, tuple[Similarity, ...]]:
    """Return the map of the penultimate features and the similarity of every unit that stays."""
    subset = data.subset(spread(data.targets.tolist(), NUM_FEATURES))
    batches = [inputs for inputs, _ in subset.batches(BATCH)]
    kept = _kept(sensitivity, plan)
    try:
        counterparts = [features.renamed(baseline, pruned, plan.names, name) for name in kept]
        heads = [features.classifier_of(network, batches[0]) for network in (baseline, pruned)]
        if None in heads:
            raise ModelError("no linear layer or convolution was called")
        one = features.collect(baseline, kept, batches, inputs_of=[str(heads[0])])
        other = features.collect(pruned, counterparts, batches, inputs_of=[str(heads[1])])
        rows = tuple(
            Similarity(unit=name, cka=_rounded(_alike(one[name], other[counterpart])))
            for name, counterpart in zip(kept, counterparts, strict=True)
            if name in one and counterpart in other
        )
        points = _projection(one[str(heads[0])], other[str(heads[1])], subset.targets.tolist())
    except (DataError, ModelError, KeyError, ValueError, RuntimeError):
        missing.append("no_features")
        return None, ()
    return points, rows


def _alike(one: features.Floats, other: features.Floats) -> float | None:
    return unbiased_cka(torch.from_numpy(one), torch.from_numpy(other))


def _projection(one: features.Floats, other: features.Floats, labels: list[int]) -> Projection:
    reference, share = features.principal(one)
    points, other_share = features.principal(other)
    turned = features.aligned(points, reference)

    def listed(values: features.Floats) -> tuple[tuple[float, float], ...]:
        return tuple((round(float(x), 3), round(float(y), 3)) for x, y in values)

    return Projection(
        labels=tuple(labels),
        baseline=listed(reference),
        pruned=listed(turned),
        explained_baseline=share,
        explained_pruned=other_share,
        num_features=int(one.shape[1]),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _kept(sensitivity: Sensitivity, plan: PrunePlan) -> list[str]:
    return [unit.name for unit in _in_order(sensitivity) if unit.name not in plan.names]


def _in_order(sensitivity: Sensitivity) -> list[Unit | LockedUnit]:
    units = sensitivity.unit_map
    known: list[Unit | LockedUnit] = [*units.removable, *units.locked]
    return sorted(known, key=lambda unit: unit.position)


def cut_points(
    baseline: nn.Module,
    pruned: nn.Module,
    plan: PrunePlan,
    sensitivity: Sensitivity,
    data: DataSet,
    chosen: Sequence[int],
    missing: list[str],
) -> tuple[CutPoint, ...]:
    """Return the stream behind every run of removed units, for the first chosen example."""
    gone = set(plan.names)
    groups = [
        (cut, [unit.name for unit in run])
        for cut, run in groupby(_in_order(sensitivity), key=lambda unit: unit.name in gone)
    ]
    inputs = inputs_of(data, chosen[:1])
    found = []
    for index, (cut, names) in enumerate(groups):
        if not cut:
            continue
        before = groups[index - 1][1][-1] if index else ""
        behind = groups[index + 1][1][0] if index + 1 < len(groups) else ""
        try:
            if behind:
                counterpart = features.renamed(baseline, pruned, plan.names, behind)
                one, other = _map(baseline, behind, inputs), _map(pruned, counterpart, inputs)
            else:
                one, other = _ends(baseline, pruned, plan, names, before, inputs)
        except (ModelError, RuntimeError):
            one = other = None
        if one is None or other is None or one.shape != other.shape:
            missing.append("no_cuts")
            continue
        low, high = min(one.min(), other.min()), max(one.max(), other.max())
        pictures = [images.encoded(images.heat(m, low=low, high=high)) for m in (one, other)]
        found.append(
            CutPoint(removed=tuple(names), unit=behind, baseline=pictures[0], pruned=pictures[1])
        )
    return tuple(found)


def _ends(
    baseline: nn.Module,
    pruned: nn.Module,
    plan: PrunePlan,
    names: Sequence[str],
    before: str,
    inputs: object,
) -> tuple[features.Floats | None, features.Floats | None]:
    """Return the stream behind the last units: what they put out, and what reaches that place now.

    That is the output of the unit before them, where it flows right into them.
    """
    if not before:
        return None, None
    left, entered = _map(baseline, before, inputs, output=True), _map(baseline, names[0], inputs)
    if left is None or entered is None or not np.array_equal(left, entered):
        return None, None
    counterpart = features.renamed(baseline, pruned, plan.names, before)
    one = _map(baseline, names[-1], inputs, output=True)
    return one, _map(pruned, counterpart, inputs, output=True)


def _map(
    model: nn.Module, name: str, inputs: object, *, output: bool = False
) -> features.Floats | None:
    """Return the mean over channels of what flows into a module, or out of it; None if no map.

    Tokens of an image (1, N, C) lie in a square, with those beside them left out.
    """
    take: dict[str, Callable[[Any, Any], Any]] = {
        name: lambda given, out: next(modules.tensors(out if output else given)).detach().float()
    }
    device = modules.device_of(model)
    with modules.untouched(model), torch.no_grad(), features.recorded(model, take) as found:
        modules.call(model, modules.to_device(inputs, device))
    tensor = found.get(name)
    if tensor is not None and tensor.ndim == 3 and (side := square(tensor.shape[1])):
        tensor = tensor[:, -side * side :].mT.unflatten(2, (side, side))
    if tensor is None or tensor.ndim != 4 or min(tensor.shape[2:]) < 2:
        return None
    result: features.Floats = tensor[0].mean(0).double().cpu().numpy()
    return result
