"""Deletes stand-ins from their containers where that computes exactly the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from srinit.surgery.copying import shaken
from srinit.surgery.take import Cut, delete, depth
from srinit.units.trace import locate
from srinit.units.verify import run

Pairs = list[tuple[Tensor, Tensor]]


def compact(
    model: nn.Module,
    entries: Mapping[str, Sequence[str]],
    inputs: Any,
    pairs: Pairs,
) -> dict[str, Cut]:
    """Delete entries of containers in place where the outputs stay equal, bit for bit.

    Outputs are compared on the weights as they are, and with noise on them, so that layers
    which start without effect cannot hide a list that no longer fits another.

    Args:
        model: The network with stand-ins.
        entries: By container, the stand-ins.
        inputs: Example inputs.
        pairs: (original, copied) parameters; see `shaken`.

    Returns:
        The cuts, by container; containers that keep their stand-ins are left out.
    """
    reference = outputs(model, inputs, pairs)
    paths = sorted(entries, key=depth, reverse=True)  # inner ones first: their names still hold
    done = _attempt(model, paths, entries, inputs, pairs, reference)
    if done is not None:
        return done
    cuts: dict[str, Cut] = {}
    for path in paths:
        cuts |= _attempt(model, [path], entries, inputs, pairs, reference) or {}
    return cuts


def _attempt(
    model: nn.Module,
    paths: Sequence[str],
    entries: Mapping[str, Sequence[str]],
    inputs: Any,
    pairs: Pairs,
    reference: list[Any],
) -> dict[str, Cut] | None:
    containers = {path: model.get_submodule(path) for path in paths}
    before = {path: dict(container._modules) for path, container in containers.items()}
    cuts = {path: delete(model, path, entries[path]) for path in paths}
    try:
        found = outputs(model, inputs, pairs)
    except Exception:  # indices that are gone, lists that no longer match
        found = None
    if found is not None and all(map(same, reference, found)):
        return cuts
    for path, container in containers.items():
        container._modules.clear()
        container._modules.update(before[path])
    return None


def outputs(model: nn.Module, inputs: Any, pairs: Pairs) -> list[Any]:
    """Return the outputs of a copy as it is, and with noise on its parameters."""
    plain = run(model, inputs)
    with shaken(pairs):
        return [plain, run(model, inputs)]


def same(one: Any, other: Any) -> bool:
    """Tell whether two outputs are equal: structure and every bit; NaN equals NaN."""
    first, second = list(locate(one)), list(locate(other))
    if [path for path, _ in first] != [path for path, _ in second]:
        return False
    return all(_equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return one.is_meta or bool(torch.equal(one, other) or ((one == other) | one.isnan()).all())
