"""What may be done after a cut, as tensors that take the place of the whole network's own.

Compensation adds nothing to a network, so what it does to a cut one can be said in the names of
the uncut one: trials measure it there, without surgery.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from srinit import modules
from srinit.compensation.recalibrate import recalibrate
from srinit.compensation.walk import realign
from srinit.errors import CompensationError, DataError, ModelError
from srinit.surgery import remove_with_origins
from srinit.units.records import Unit

Method = Literal["none", "recalibrate", "fold", "auto"]
Variant = Mapping[str, Tensor]
"""Tensors by key of the uncut network's state dict."""
LEAST_ROWS = 4000  # positions that are read for a map at least
STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Fitted:
    """What may be done after one cut.

    Attributes:
        variants: By name what changes; "nothing" is always there.
        reason: Why a way of compensation is missing.
    """

    variants: Mapping[str, Variant]
    reason: str = ""


def fit_variants(
    model: nn.Module,
    units: Sequence[Unit],
    batches: Sequence[Any],
    *,
    method: Method,
    example_inputs: object,
    teacher: nn.Module | None = None,
) -> Fitted:
    """Return what may be done after units are cut, fitted on `batches`.

    With "auto" that is realignment, a fold where no map may be solved again, and recalibration
    where nothing of both can be done.

    Args:
        model: The uncut network; not touched.
        units: What goes.
        batches: Inputs without targets, two examples at least.
        method: "none": nothing; "recalibrate": new normalization statistics; "fold": see
            `realign`; "auto": realignment.
        example_inputs: One batch that the network takes.
        teacher: The unpruned network, where `model` was trained since; by default `model`.

    Raises:
        SurgeryError: A unit cannot be taken out.
    """
    found: dict[str, Variant] = {"nothing": {}}
    several = [batch for batch in batches if modules.batch_size(batch) > 1]
    if method == "none" or not units or not several:
        return Fitted(found, "" if several or method == "none" else "no example to fit on")

    def cut() -> tuple[nn.Module, Mapping[str, str]]:
        return remove_with_origins(model, units, example_inputs=example_inputs)

    reason = ""
    ways = {"auto": ("realigned", "folded"), "fold": ("folded",)}.get(method, ())
    for name in ways:
        pruned, origins = cut()
        try:
            update = realign(
                model if teacher is None else teacher,
                pruned,
                origins,
                several,
                least_rows=LEAST_ROWS,
                fold=name == "folded",
            )
        except (CompensationError, DataError, ModelError) as error:
            reason = str(error)
            break
        if update.changes:
            own = pruned.state_dict()
            found[name] = {origins[key]: own[key] for key in update.changes}
            return Fitted(found)
        reason = "no linear map behind the cut could be solved again"
    pruned, origins = cut()
    if any(isinstance(m, _BatchNorm) and m.track_running_stats for m in pruned.modules()):
        try:
            recalibrate(pruned, [(batch, None) for batch in several])
        except DataError as error:
            return Fitted(found, f"{reason}; {error}" if reason else str(error))
        found["recalibrated"] = {
            origins[key]: value
            for key, value in pruned.state_dict().items()
            if key.rpartition(".")[2] in STATISTICS and key in origins
        }
    return Fitted(found, reason)


def size_of(variants: Mapping[str, Variant]) -> int:
    """Return the bytes that variants take."""
    tensors = [tensor for each in variants.values() for tensor in each.values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
