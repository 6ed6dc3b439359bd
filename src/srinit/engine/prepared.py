"""A model made ready for the scan: an own copy, cheaper where that pays, that can be replayed.

Whatever does not split into groups of examples, or cannot be replayed, is found out here by
comparing with a plain forward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from srinit import modules
from srinit.engine.copies import (
    Precision,
    cheap_dtypes,
    cheaper_copy,
    inputs_for,
    is_close,
    own_copy,
    shared_copy,
)
from srinit.engine.folding import Pair
from srinit.engine.groups import Layout, groups_of
from srinit.engine.outcomes import score_batch
from srinit.engine.replay import Replayer
from srinit.errors import ModelError
from srinit.evaluate import Scorer
from srinit.reinit import Call

MAX_FLIPS = 0.02  # share of examples that cheaper arithmetic may score otherwise


@dataclass
class PreparedModel:
    """What measuring needs of a model."""

    source: nn.Module  # the scan's own copy, unchanged, on the memory of the caller's
    replayer: Replayer
    layouts: dict[str, Layout]  # of units that split into groups and replay exactly
    dtype: torch.dtype | None = None  # of a copy that is cheaper to run; None: there is none
    pairs: tuple[Pair, ...] = ()  # layers, and the normalization folded into each
    calls: dict[str, Call] = field(default_factory=dict)  # a small call of each unit of the copy
    notes: dict[str, str] = field(default_factory=dict)  # why a unit is not replayed


def prepare_model(
    model: nn.Module,
    names: Sequence[str],
    batch: tuple[Any, Any],
    *,
    scorer: Scorer,
    device: torch.device | str,
    precision: Precision,
) -> PreparedModel:
    """Return a model of the scan's own; `model` is only read.

    Args:
        model: Any module.
        names: Of the units.
        batch: Some examples, to compare on.
        scorer: Cheaper arithmetic is used where it leaves nearly every score as it is.
        device: Where inputs go.
        precision: "auto": bfloat16 where the hardware gains from it and scores agree, else 32 bits.
    """
    inputs, _ = batch
    size = modules.batch_size(inputs)
    two, three = (
        modules.to_device(modules.rows_between(inputs, 0, min(count, size)), device)
        for count in (2, 3)
    )
    source = own_copy(model, three)
    plain = shared_copy(source)  # its forwards will be wrapped for good
    exact = Replayer(plain, names)
    notes: dict[str, str] = {}
    layouts = _layouts(exact, two, three, notes)
    for dtype in cheap_dtypes(model, precision):
        cheap, pairs = cheaper_copy(source, dtype, three, names)
        if not agrees(plain, cheap, batch, scorer, device):
            continue
        prepared = PreparedModel(source, Replayer(cheap, names), layouts, dtype, pairs, notes=notes)
        with torch.no_grad(), _noting_calls(cheap, names, prepared.calls):
            prepared.replayer.learn(inputs_for(cheap, three, device))
        return prepared
    prepared = PreparedModel(source, exact, layouts, notes=notes)
    with torch.no_grad(), _noting_calls(plain, names, prepared.calls):
        modules.call(plain, three)
    return prepared


@contextmanager
def _noting_calls(model: nn.Module, names: Sequence[str], calls: dict[str, Call]) -> Iterator[None]:
    """Note with which arguments each unit is called first, for a while."""

    def note(name: str, _: nn.Module, args: Any, kwargs: Any) -> None:
        if name not in calls:
            with suppress(ModelError):  # it cannot be called a second time
                calls[name] = Call(args, kwargs)

    handles = [
        model.get_submodule(name).register_forward_pre_hook(partial(note, name), with_kwargs=True)
        for name in names
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def agrees(
    plain: nn.Module,
    cheap: nn.Module,
    batch: tuple[Any, Any],
    scorer: Scorer,
    device: torch.device | str,
) -> bool:
    """Return whether cheaper arithmetic leaves nearly every example's score as it is."""
    inputs, target = batch
    with torch.inference_mode():
        try:
            low = modules.call(cheap, inputs_for(cheap, inputs, device))
        except RuntimeError:
            return False  # the model mixes number formats
        full = modules.call(plain, modules.to_device(inputs, device))
    one, other = score_batch(full, target, scorer), score_batch(low, target, scorer)
    changed = sum(abs(a - b) for a, b in zip(one.scores, other.scores, strict=True))
    return changed <= max(MAX_FLIPS * len(one.scores), 1) and one.nonfinite == other.nonfinite


def _layouts(
    replayer: Replayer, two: object, three: Any, notes: dict[str, str]
) -> dict[str, Layout]:
    """Return the layout of every unit that splits into groups and replays exactly.

    Units whose calls cannot be made again are noted, with the reason.
    """
    replayer.learn(two)
    before = {name: replayer.shapes(name) for name in replayer.known}
    with torch.no_grad():
        wanted = modules.logits_of(replayer.learn(three))
        output, same = replayer.record(three)
    size = modules.batch_size(three)
    layouts: dict[str, Layout] = {}
    if not same or not is_close(modules.logits_of(output), wanted):
        return layouts
    groups = groups_of(0, size, 2)
    for name in replayer.known:
        one, other = before.get(name), replayer.shapes(name)
        if one is None or other is None:
            continue
        try:
            layout = Layout.between(one, other)
            with torch.no_grad():
                again = replayer.replay(name, three, layout.grouped(groups, size, None))
            if is_close(modules.logits_of(again), wanted):
                layouts[name] = layout
        except ModelError as error:
            notes[name] = f"every draw took a whole forward pass: {error}"
        except (ValueError, RuntimeError, TypeError, IndexError, KeyError):
            continue  # measured the plain way
    replayer.forget()
    return layouts
