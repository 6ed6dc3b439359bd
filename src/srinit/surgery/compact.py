"""Deletes stand-ins from their containers where that computes exactly the same."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from srinit.copying import Pairs
from srinit.recording import locate
from srinit.surgery.perturb import perturbed
from srinit.surgery.replace import Cut, delete, depth
from srinit.units.verify import run

Follow = Callable[[Mapping[str, Cut]], None]


def compact(
    model: nn.Module,
    entries: Mapping[str, Sequence[str]],
    inputs: object,
    pairs: Pairs,
    follow: Follow,
    *,
    reference: list[Any],
) -> dict[str, Cut]:
    """Delete entries of containers in place where the outputs stay equal, bit for bit.

    Outputs are compared on the weights as they are, and with noise on them, so that layers
    which start without effect cannot hide a list that no longer fits another.

    Args:
        model: The network with stand-ins.
        entries: By container, the stand-ins.
        inputs: Example inputs.
        pairs: (original, copied) parameters; see `perturbed`.
        follow: Brings what the network derives from its number of layers in line with cuts; its
            forward may read that, so it is part of what is compared.
        reference: `outputs` of the network with stand-ins.

    Returns:
        The cuts, by container; containers that keep their stand-ins are left out.
    """
    paths = sorted(entries, key=depth, reverse=True)  # inner ones first: their names still hold
    done = _attempt(model, paths, entries, inputs, pairs, reference, follow)
    if done is not None:
        return done
    cuts: dict[str, Cut] = {}
    for path in paths:
        cuts |= _attempt(model, [path], entries, inputs, pairs, reference, follow) or {}
    return cuts


def _attempt(
    model: nn.Module,
    paths: Sequence[str],
    entries: Mapping[str, Sequence[str]],
    inputs: object,
    pairs: Pairs,
    reference: list[Any],
    follow: Follow,
) -> dict[str, Cut] | None:
    containers = {path: model.get_submodule(path) for path in paths}
    before = {path: dict(container._modules) for path, container in containers.items()}
    derived = _Derived(model)
    cuts = {path: delete(model, path, entries[path]) for path in paths}
    follow(cuts)
    if _agrees(model, inputs, pairs, reference):
        return cuts
    for path, container in containers.items():
        container._modules.clear()
        container._modules.update(before[path])
    derived.restore()
    return None


class _Derived:
    """Remembers the attributes of modules and their configs, to put them back."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = [(vars(module), dict(vars(module))) for module in model.modules()]
        configs = {
            id(c): c for m in model.modules() if hasattr(c := vars(m).get("config"), "to_dict")
        }
        self._configs = [(vars(c), copy.deepcopy(vars(c))) for c in configs.values()]

    def restore(self) -> None:
        """Put everything back that was changed since."""
        for body, before in (*self._configs, *self._modules):
            body.clear()
            body.update(before)


def _agrees(model: nn.Module, inputs: object, pairs: Pairs, reference: list[Any]) -> bool:
    try:
        return all(map(same, reference, outputs(model, inputs, pairs)))
    except Exception:  # indices that are gone, lists that no longer match
        return False


def outputs(model: nn.Module, inputs: object, pairs: Pairs) -> list[Any]:
    """Return the outputs of a copy as it is, and with noise on its parameters."""
    plain = run(model, inputs)
    with perturbed(pairs):
        return [plain, run(model, inputs)]


def same(one: object, other: object) -> bool:
    """Tell whether two outputs are equal: structure and every bit; NaN equals NaN."""
    first, second = list(locate(one)), list(locate(other))
    if [path for path, _ in first] != [path for path, _ in second]:
        return False
    return all(_equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return one.is_meta or bool(torch.equal(one, other) or ((one == other) | one.isnan()).all())
