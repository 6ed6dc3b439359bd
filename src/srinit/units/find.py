"""Finds what may be removed from a network, and says of every near-miss what stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn

from srinit import modules
from srinit.errors import ModelError
from srinit.evaluate import inputs_of
from srinit.recording import TraceIndex, record
from srinit.specs import describe
from srinit.state import preserves
from srinit.units.bypass import PassThroughFor, RewriteCache
from srinit.units.describe import locked
from srinit.units.found import Found, Level
from srinit.units.opaque import opaque_locks, opaque_parts, why_none
from srinit.units.patterns import Pattern, matching
from srinit.units.plain import plain_units
from srinit.units.records import UnitMap
from srinit.units.verify import run, verify
from srinit.units.words import choose_by_word

FUSED = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
"""Modules whose fused path, switched off while recording, may give outputs of another shape."""
Rule = Callable[[str, nn.Module], bool]
"""A user's own rule: from name and module to whether it is a unit."""


@preserves
def find_units(
    model: nn.Module,
    example_inputs: object,
    *,
    keep: Iterable[Pattern] = (),
    level: Level = "block",
    include_plain: bool = False,
    select: Iterable[Pattern] | None = None,
    rule: Rule | None = None,
    passthrough: PassThroughFor | None = None,
) -> UnitMap:
    """Return the removable units of a network, and its near-misses with what locks them.

    One forward is recorded and the units are found in it, so any module will do; then the
    network is run without them. The model, its modes, hooks and the random state are the same
    afterwards, also when it raises.

    Args:
        model: Any module.
        example_inputs: What it takes: a tensor, a tuple (arguments) or a dict (keywords); a
            batch of two or more.
        keep: What stays: units, all units inside modules, and units that hold such a module;
            names, globs ("layer4.*"), classes, or "class:NAME".
        level: "block"; "sublayer" for the halves of blocks (attention, feed-forward); "stage"
            for whole runs of blocks that keep their shape.
        include_plain: Offer runs of convolution, norm and activation that keep the shape.
        select: Offer only these (written like `keep`), of any grain; one that is named exactly
            is offered even if its output is a side output. What a removal means is the same with
            it and without; what is named and is no unit is locked, with the reason.
        rule: The same as a function: which modules to offer.
        passthrough: Your own stand-ins for removed units; pass the same to `apply_plan`.

    Raises:
        ModelError: The model does not run on the inputs, or has lazy parts without weights.
        TypeError: The model is no `nn.Module`.
        ConfigError: A pattern in `keep` or `select` matches no submodule.

    Example:
        >>> import torch
        >>> from torch.nn import TransformerEncoder, TransformerEncoderLayer
        >>> layer = TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> model = TransformerEncoder(layer, 3, enable_nested_tensor=False)
        >>> units = find_units(model, torch.zeros(2, 4, 8), keep=["layers.0"])
        >>> units.names, units.locked[0].reason
        (('layers.1', 'layers.2'), 'kept')
    """
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"find_units takes a torch.nn.Module, not {type(model).__name__}; pass the PyTorch "
            "network that it was made from."
        )
    example_inputs = inputs_of(example_inputs, model)
    named = dict(model.named_modules())
    protected = matching(keep, named, argument="keep")
    selected = None if select is None else matching(select, named, argument="select")
    exact = {p for p in select or () if isinstance(p, str) and p in named}
    try:
        trace = record(model, example_inputs)
        fused = any(isinstance(module, FUSED) for module in named.values())
        expected = run(model, example_inputs) if fused else trace.result
    except Exception as error:  # the model's own code may fail in any way
        shapes = [tuple(tensor.shape) for tensor in modules.tensors(example_inputs)]
        sealed = next(iter(opaque_parts(model).items()), None)
        raise ModelError(
            f"the model does not run on the example inputs {shapes}: "
            f"{type(error).__name__}: {error}"
            + (f"; of {sealed[0] or type(model).__name__}: {sealed[1]}" if sealed else "")
        ) from error
    traced = TraceIndex(model, trace)
    rewrites = RewriteCache()
    found = Found(traced, rewrites)
    found.by_rule(level)
    if include_plain:
        found.add(plain_units(traced, outside=list(found.calls.values())))
    if rule is None and selected is None:
        found.add_near_misses()
        for lock in opaque_locks(traced, [*found.units, *found.locks]):
            found.locks[lock.name] = lock
    else:
        names = _named(traced, selected, rule)
        choose_by_word(found, names, level=level, exact=exact if rule is None else set(names))
    found.lock_dependencies_and_side_outputs(free=exact)
    found.lock_kept(protected)
    failed = verify(
        model, example_inputs, found.units, expected, passthrough=passthrough, rewrites=rewrites
    )
    for name, text in failed.items():
        detail = f"without it the network fails: {text}"
        found.locks[name] = locked(found.units.pop(name), "verification failed", detail)
    return found.map(describe(example_inputs), why_none(traced))


def _named(traced: TraceIndex, selected: list[str] | None, rule: Rule | None) -> list[str]:
    names = list(traced.named) if selected is None else selected
    return [name for name in names if name and (rule is None or rule(name, traced.named[name]))]
