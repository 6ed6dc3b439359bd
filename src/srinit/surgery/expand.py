"""Brings a trained pruned network back into the shape of the unpruned one, to cut it again."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from srinit.copying import detached_copy
from srinit.errors import SurgeryError
from srinit.surgery.remove import remove_with_origins
from srinit.units.records import Unit


def expand_back(
    model: nn.Module, pruned: nn.Module, units: Iterable[Unit], *, example_inputs: object
) -> tuple[nn.Module, dict[str, str]]:
    """Return a copy of `model` that holds what `pruned` learned, and what its parts are called.

    Removing the same units from the copy gives `pruned` again, bit for bit, so that further
    units can be removed by the names that plans use: those of the unpruned network.

    Args:
        model: The unpruned network; not touched.
        pruned: The network without `units`, trained since; not touched.
        units: What was removed, as found in `model`.
        example_inputs: For the surgery's check.

    Returns:
        The copy, in which removed units have the weights of `model`, and the name in `model` of
        every module of `pruned` that holds tensors.

    Raises:
        SurgeryError: `pruned` is not `model` without these units.

    Example:
        >>> from srinit.surgery import remove_units
        >>> from srinit.units import find_units
        >>> layer = lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> model = nn.TransformerEncoder(layer(), 3, enable_nested_tensor=False).eval()
        >>> inputs = torch.randn(1, 4, 8)
        >>> gone = list(find_units(model, inputs))[:1]
        >>> pruned = remove_units(model, gone, example_inputs=inputs)
        >>> carried, names = expand_back(model, pruned, gone, example_inputs=inputs)
        >>> names["layers.0.linear1"], len(carried.layers)
        ('layers.1.linear1', 3)
    """
    cut, origins = remove_with_origins(model, units, example_inputs=example_inputs)
    trained = pruned.state_dict()
    if trained.keys() != cut.state_dict().keys():
        other = sorted(trained.keys() ^ cut.state_dict().keys())
        raise SurgeryError(
            f"the pruned network is not {type(model).__name__} without these units: "
            f"{other[:3]} are in one of them only."
        )
    lost = sorted(key for key in trained if key not in origins)
    if lost:
        raise SurgeryError(
            f"{', '.join(lost[:3])} have no counterpart in the unpruned network, so it cannot be "
            "cut again from here; use prune.rounds: 1."
        )
    result, _ = detached_copy(model, example_inputs)
    place = result.state_dict(keep_vars=True)
    with torch.no_grad():
        for key, tensor in trained.items():
            place[origins[key]].copy_(tensor)
    return result, _module_names(origins)


def kept_names(
    model: nn.Module, units: Iterable[Unit], *, example_inputs: object
) -> dict[str, str]:
    """Return what the parts that hold tensors are called without `units`, and in `model`."""
    _, origins = remove_with_origins(model, units, example_inputs=example_inputs)
    return _module_names(origins)


def _module_names(origins: dict[str, str]) -> dict[str, str]:
    """Return, for every module of the pruned network on the way to a tensor, its origin's name.

    Removals shift entries of containers and never move a module to another depth.
    """
    names: dict[str, str] = {}
    for new, old in origins.items():
        ours, theirs = new.split("."), old.split(".")
        if len(ours) == len(theirs):
            for end in range(1, len(ours)):
                names[".".join(ours[:end])] = ".".join(theirs[:end])
    return names
