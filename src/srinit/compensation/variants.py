"""What may be done after a cut, as tensors that take the place of the whole network's own.

Compensation adds nothing to a network, so what it does to a cut one can be said in the names of
the uncut one: trials measure it there, without surgery.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from srinit import modules
from srinit.compensation.recalibrate import recalibrate
from srinit.copying import detached_copy
from srinit.errors import CompensationError, DataError, ModelError
from srinit.realignment import ROOM, Teacher, realign
from srinit.units.bypass import RewriteCache, bypassed
from srinit.units.records import Unit

Method = Literal["none", "recalibrate", "fold", "auto"]
WAYS: dict[Method, tuple[str, ...]] = {"auto": ("realigned", "folded"), "fold": ("folded",)}
Variant = Mapping[str, Tensor]
"""Tensors by key of the uncut network's state dict."""
LEAST_ROWS = 4000  # positions that are read for a map at least
WORTH = 0.005  # squared distance to the target, of its square, from which a map is solved again
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


class Fitter:
    """What may be done after cuts of one network, each fitted on the same inputs.

    What is cut is out of action in one copy, for a while; no surgery is done for it. What the
    unpruned network gives is kept between fits (`teacher.py`).

    Args:
        model: The uncut network; not touched.
        batches: Inputs without targets, two examples at least.
        method: "none": nothing; "recalibrate": new normalization statistics; "fold": see
            `realign`; "auto": realignment, a fold where no map may be solved again, and
            recalibration where nothing of both can be done.
        example_inputs: One batch that the network takes.
        teacher: The unpruned network, where `model` was trained since; by default `model`.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Sequence[Any],
        *,
        method: Method,
        example_inputs: Any,
        teacher: nn.Module | None = None,
    ) -> None:
        self._model, self._method, self._example = model, method, example_inputs
        self._batches = [batch for batch in batches if modules.batch_size(batch) > 1]
        self._unpruned = model if teacher is None else teacher
        self._rewrites = RewriteCache()

    @cached_property
    def _copy(self) -> nn.Module:
        return detached_copy(self._model, self._example)[0].eval()

    @cached_property
    def _teacher(self) -> Teacher:
        return Teacher(self._unpruned, self._batches, room=ROOM)

    def fitted(self, units: Sequence[Unit]) -> Fitted:
        """Return what may be done after units are cut.

        Raises:
            SurgeryError: A unit cannot be taken out.
        """
        if self._method == "none" or not units or not self._batches:
            has_some = self._batches or self._method == "none"
            return Fitted({"nothing": {}}, "" if has_some else "no example to fit on")
        reason = ""
        for name in WAYS.get(self._method, ()):
            with self._cut(units) as (cut, origins):
                found = self._realigned(cut, origins, fold=name == "folded")
            if isinstance(found, Mapping):
                return Fitted({"nothing": {}, name: found})
            reason = found
        with self._cut(units) as (cut, origins):
            found = self._recalibrated(cut, origins)
        if isinstance(found, Mapping):
            return Fitted({"nothing": {}, "recalibrated": found}, reason)
        return Fitted({"nothing": {}}, "; ".join(part for part in (reason, found) if part))

    @contextmanager
    def _cut(self, units: Sequence[Unit]) -> Iterator[tuple[nn.Module, Mapping[str, str]]]:
        """Yield the copy without units, and for its keys the model's; it is restored afterwards."""
        whole = self._copy.state_dict(keep_vars=True)
        names = {id(tensor): key for key, tensor in whole.items()}
        before = self._model.state_dict()
        try:
            with (
                modules.untouched(self._copy),
                bypassed(self._copy, units, rewrites=self._rewrites),
            ):
                own = self._copy.state_dict(keep_vars=True).items()
                yield self._copy, {k: names[id(t)] for k, t in own if id(t) in names}
        finally:
            for key, tensor in whole.items():
                if isinstance(tensor, Tensor):
                    tensor.data.copy_(before[key])

    def _realigned(
        self, cut: nn.Module, origins: Mapping[str, str], *, fold: bool
    ) -> Variant | str:
        """Return what realignment changes, or why it changes nothing."""
        try:
            update = realign(
                self._unpruned,
                cut,
                origins,
                self._batches,
                least_rows=LEAST_ROWS,
                worth=WORTH,
                fold=fold,
                teacher=self._teacher,
            )
        except (CompensationError, DataError, ModelError) as error:
            return str(error)
        own = cut.state_dict()
        found = {origins[key]: own[key].clone() for key in update.changes}
        return found or "no linear map behind the cut could be solved again"

    def _recalibrated(self, cut: nn.Module, origins: Mapping[str, str]) -> Variant | str:
        """Return new statistics, or why there are none."""
        if not any(isinstance(m, _BatchNorm) and m.track_running_stats for m in cut.modules()):
            return ""
        try:
            recalibrate(cut, [(batch, None) for batch in self._batches])
        except DataError as error:
            return str(error)
        return {
            origins[key]: value.clone()
            for key, value in cut.state_dict().items()
            if key.rpartition(".")[2] in STATISTICS and key in origins
        }


def fit_variants(
    model: nn.Module,
    units: Sequence[Unit],
    batches: Sequence[Any],
    *,
    method: Method,
    example_inputs: object,
    teacher: nn.Module | None = None,
) -> Fitted:
    """Return what may be done after one cut; see `Fitter`.

    Raises:
        SurgeryError: A unit cannot be taken out.
    """
    fitter = Fitter(model, batches, method=method, example_inputs=example_inputs, teacher=teacher)
    return fitter.fitted(units)


def size_of(variants: Mapping[str, Variant]) -> int:
    """Return the bytes that variants take."""
    tensors = [tensor for each in variants.values() for tensor in each.values()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
