"""Features of two networks side by side: two principal components, and similarity by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srinit import modules
from srinit.errors import ModelError
from srinit.evaluate import BatchSplitter
from srinit.padding import Places, places_of

# N examples, D features

Floats = npt.NDArray[np.float64]
POOL = 4  # maps are averaged to so many places a side before they are compared


def renamed(baseline: nn.Module, pruned: nn.Module, removed: Sequence[str], name: str) -> str:
    """Return what a unit that stays is called in the pruned network, where containers moved up.

    Args:
        baseline: The unpruned network.
        pruned: The same network without `removed`.
        removed: Names of the units that went.
        name: A unit that stayed, by its name in `baseline`.

    Raises:
        ModelError: It is not in the pruned network.
    """
    one, other, path, new = baseline, pruned, "", []
    gone = set(removed)
    for part in name.split("."):
        keys = list(one._modules)
        if part not in one._modules:
            raise ModelError(f"the network has no submodule {name!r}.")
        kept = [key for key in keys if (f"{path}.{key}" if path else key) not in gone]
        others = list(other._modules)
        moved = len(others) == len(kept) < len(keys)
        key = others[kept.index(part)] if moved and part in kept else part
        child, twin = one._modules[part], other._modules.get(key)
        if child is None or twin is None:
            raise ModelError(f"the pruned network has no counterpart of {name!r}.")
        one, other = child, twin
        path = f"{path}.{part}" if path else part
        new.append(key)
    return ".".join(new)


@contextmanager
def recorded(model: nn.Module, take: Mapping[str, Callable[[Any, Any], Any]]) -> Iterator[Any]:
    """Record, in a dict that is yielded, what `take[name](args, output)` makes of the last call.

    Hooks are removed on the way out, also after an error.
    """
    found: dict[str, Any] = {}

    def hook(name: str) -> Callable[[nn.Module, Any, Any, Any], None]:
        def note(_module: nn.Module, args: object, kwargs: object, output: object) -> None:
            found[name] = take[name]((args, kwargs), output)

        return note

    handles = [
        model.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True)
        for name in take
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def pooled(tree: object, places: Places | None = None) -> Tensor:
    """Return the first tensor of a module's inputs or output as features (N, D), averaged.

    Raises:
        DataError: There are padded places, and nothing says which of these they are.
    """
    tensor = next(modules.tensors(tree)).detach().float()
    real = None if places is None else places.among(tuple(tensor.shape))
    if real is not None and tensor.ndim == 3:
        weight = real[:, :, None]
        tensor = torch.where(weight, tensor, 0).sum(1) / weight.sum(1).clamp_min(1)
    elif tensor.ndim == 4:
        side = (min(POOL, tensor.shape[2]), min(POOL, tensor.shape[3]))
        tensor = F.adaptive_avg_pool2d(tensor, side)
    elif tensor.ndim == 3:
        tensor = F.adaptive_avg_pool1d(tensor.mT, min(POOL * POOL, tensor.shape[1]))
    return tensor.flatten(1).cpu().clone()  # what follows may write over it


def collect(
    model: nn.Module,
    names: Sequence[str],
    batches: Sequence[Any],
    *,
    inputs_of: Sequence[str] = (),
) -> dict[str, Floats]:
    """Return features (N, D) of the outputs of `names` and of the inputs of `inputs_of`."""
    places: list[Places | None] = [None]  # of the batch that runs
    take: dict[str, Callable[[Any, Any], Any]] = {
        name: lambda _, out: pooled(out, places[0]) for name in names
    }
    take |= {name: lambda given, _: pooled(given, places[0]) for name in inputs_of}
    parts: dict[str, list[Tensor]] = {name: [] for name in take}
    device = modules.device_of(model)
    with modules.untouched(model), torch.inference_mode(), recorded(model, take) as found:

        def seen(inputs: Any) -> dict[str, Tensor]:
            found.clear()
            inputs = modules.to_device(inputs, device)
            places[0] = places_of(model, inputs)
            modules.call(model, inputs)
            return dict(found)

        fitting = BatchSplitter(device)
        for inputs in batches:
            for noted in fitting.run(seen, inputs):
                for name, value in noted.items():
                    parts[name].append(value)
    return {name: torch.cat(p).double().numpy() for name, p in parts.items() if p}


def classifier_of(model: nn.Module, inputs: object) -> str | None:
    """Return the module that makes the predictions: the last linear or convolution called."""
    last: list[str] = []
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            handles.append(
                module.register_forward_hook(lambda *_args, name=name: last.append(name))
            )
    try:
        with modules.untouched(model), torch.inference_mode():
            modules.call(model, modules.to_device(inputs, modules.device_of(model)))
    finally:
        for handle in handles:
            handle.remove()
    return last[-1] if last else None


def principal(features: Floats) -> tuple[Floats, float]:
    """Return two principal components (N, 2) of features (N, D), and their share of variance.

    They are scaled to mean square 1.
    """
    centered = features - features.mean(axis=0)
    left, singular, _ = np.linalg.svd(centered, full_matrices=False)
    points = left[:, :2] * singular[:2]
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    total = float((singular**2).sum())
    share = float((singular[:2] ** 2).sum()) / total if total > 0 else 0.0
    size = float(np.sqrt((points**2).sum(axis=1).mean()))
    return points / (size or 1.0), share


def aligned(points: Floats, reference: Floats) -> Floats:
    """Return `points` turned or mirrored, not stretched, to lie closest to `reference`.

    Source: Schönemann, orthogonal Procrustes, https://doi.org/10.1007/BF02289451
    """
    left, _, right = np.linalg.svd(points.T @ reference)
    turned: Floats = points @ (left @ right)
    return turned
