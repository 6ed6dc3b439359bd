"""Which network units were found in: the names and shapes of its tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from torch import Tensor, nn

from srinit.errors import PlanError
from srinit.state import check_initialized
from srinit.units.records import Unit


def fingerprint(model: nn.Module) -> str:
    """Return what tells a network from others: its tensors' count, values and a hash.

    Hashed are the names and shapes of parameters; of buffers only where there are none, as in
    quantized networks. Values, number format and device are no part of it: a plan holds for the
    same network trained further, or moved.

    Example:
        >>> fingerprint(nn.Linear(3, 2))
        '2 tensors with 8 values, sha256 69c9b4f0f4aadd29'
    """
    check_initialized(model)
    named: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    named = named or dict(model.named_buffers(remove_duplicate=False))
    lines = "\n".join(f"{name} {list(named[name].shape)}" for name in sorted(named))
    values = sum(tensor.numel() for tensor in named.values())
    digest = hashlib.sha256(lines.encode()).hexdigest()[:16]
    return f"{len(named)} tensors with {values:,} values, sha256 {digest}"


def check_fits(model: nn.Module, units: Iterable[Unit]) -> None:
    """Raise `PlanError` unless a network is the one that units were found in.

    Units that do not say where they were found (written by hand, or by an earlier version) are
    compared by their class alone.
    """
    chosen, here = list(units), ""
    for unit in chosen:
        if unit.network and not here:
            here = fingerprint(model)
        if unit.network and unit.network != here:
            raise PlanError(
                f"{unit.name!r} was found in another network: in one of {unit.network}; this "
                f"{type(model).__name__} has {here}. Names and shapes of tensors must be the same. "
                "Was something removed from it already, or its head replaced? Find the units of "
                "this network (find_units), and make a plan of its own."
            )
    named = dict(model.named_modules(remove_duplicate=False))
    for unit in chosen:
        module = named.get(unit.name)
        if module is not None and unit.class_name not in ("", type(module).__name__):
            raise PlanError(
                f"{unit.name!r} was found in another network: it was a {unit.class_name}, and in "
                f"this {type(model).__name__} it is a {type(module).__name__}. Find the units of "
                "this network (find_units), and make a plan of its own."
            )
