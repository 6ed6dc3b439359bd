"""Units out of action: what takes their places, for a while or for good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from srinit import modules
from srinit.errors import SurgeryError
from srinit.recording import within
from srinit.units.branch import Readings, without_branch
from srinit.units.passthrough import standing_in_for
from srinit.units.records import Unit

PassThroughFor = Callable[[str, nn.Module], nn.Module | None]
"""A user's own pass-through: from name and module to what takes its place; None for ours."""


class RewriteCache:
    """Sites without a branch that were made already, and the code of sites that was read."""

    def __init__(self) -> None:
        self.readings = Readings()
        self.sites: dict[Any, tuple[nn.Module, nn.Module]] = {}  # with the site: its id stays
        self.stand_ins: dict[Any, tuple[nn.Module, Any, nn.Module]] = {}

    def stand_in(self, original: nn.Module, structure: object, name: str) -> nn.Module:
        """Return what stands in for a module, made once."""
        key = (id(original), id(structure), name)
        if key not in self.stand_ins:
            made = standing_in_for(original, structure, name=name)
            self.stand_ins[key] = (original, structure, made)
        return self.stand_ins[key][-1]


@contextmanager
def bypassed(
    model: nn.Module,
    units: Unit | Iterable[Unit],
    *,
    passthrough: PassThroughFor | None = None,
    rewrites: RewriteCache | None = None,
) -> Iterator[None]:
    """Put units out of action for a while; everything is as before afterwards.

    Args:
        model: The network the units were found in.
        units: Those that are skipped.
        passthrough: The user's own pass-throughs.
        rewrites: Sites rewritten before; further ones are added to it.

    Example:
        >>> from srinit.units import find_units
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
        >>> import torch
        >>> x = torch.zeros(2, 4, 8)
        >>> with bypassed(model, find_units(model, x).removable):
        ...     torch.equal(model(x), x)
        True
    """
    shared = modules.repeated(model)
    made = RewriteCache() if rewrites is None else rewrites
    with ExitStack() as stack:
        for unit in [units] if isinstance(units, Unit) else units:
            for name, module in replacements(model, unit, passthrough=passthrough, rewrites=made):
                if name:
                    stack.enter_context(modules.swapped(model, name, module, shared=shared))
                else:
                    stack.enter_context(_as_if(model, module))
        yield


@contextmanager
def _as_if(model: nn.Module, other: nn.Module) -> Iterator[None]:
    """Let a model run the forward of another object with the same attributes, for a while."""
    own, added = type(model), {k: v for k, v in vars(other).items() if k not in vars(model)}
    hidden = {key: value for key, value in vars(model).items() if key == "forward"}
    constants = [key for key in other._buffers if key not in model._buffers]
    model._buffers.update({key: other._buffers[key] for key in constants})
    model.__dict__.update(added)
    model.__dict__.pop("forward", None)
    model.__class__ = type(other)
    try:
        yield
    finally:
        model.__class__ = own
        model.__dict__.update(hidden)
        for key in added:
            del model.__dict__[key]
        for key in constants:
            del model._buffers[key]


def replacements(
    model: nn.Module,
    unit: Unit,
    *,
    passthrough: PassThroughFor | None = None,
    rewrites: RewriteCache | None = None,
) -> list[tuple[str, nn.Module]]:
    """Return what takes the place of which submodule; the name "" stands for the model itself.

    Raises:
        SurgeryError: The site of a branch cannot be rewritten.
    """
    found = []
    site = site_of(unit)
    known = RewriteCache() if rewrites is None else rewrites
    if unit.how == "branch":
        found.append((site, _reduced(model, unit, known)))
    else:
        original = model.get_submodule(unit.name)
        own = passthrough(unit.name, original) if passthrough is not None else None
        if own is None:
            own = known.stand_in(original, unit.output, unit.name)
        else:
            own.train(original.training)
        found.append((unit.name, own))
    for name, structure in unit.also.items():
        if unit.how != "branch" or not within(name, site):
            found.append((name, known.stand_in(model.get_submodule(name), structure, name)))
    return found


def site_of(unit: Unit) -> str:
    """Return the name of the module that executes the addition of a branch."""
    return unit.name if unit.site is None else unit.site


def gone_from(unit: Unit) -> tuple[str, ...]:
    """Return the modules, by their names in the model, that leave a branch's site."""
    inside = unit.parts or (unit.name,)
    return (*inside, *(name for name in unit.also if within(name, site_of(unit))))


def rewrite(model: nn.Module, unit: Unit, rewrites: RewriteCache) -> nn.Module:
    """Return the site of a branch without it, made once for each state of the site.

    Raises:
        SurgeryError: The code of the site cannot be rewritten.
    """
    name = site_of(unit)
    prefix = len(name) + 1 if name else 0
    parts = tuple(part[prefix:] for part in gone_from(unit))
    output = unit.output if isinstance(unit.output, dict) else {}
    given = output.get("given", ())
    gated = (2, *unit.out_shape) if output.get("gated") else None
    site = model.get_submodule(name)
    key = (id(site), type(site), parts)  # the network itself changes its class, not its id
    if key not in rewrites.sites:
        made = without_branch(site, parts, given=given, gated=gated, readings=rewrites.readings)
        rewrites.sites[key] = (site, made)
    return rewrites.sites[key][1]


def _reduced(model: nn.Module, unit: Unit, rewrites: RewriteCache) -> nn.Module:
    try:
        return rewrite(model, unit, rewrites)
    except SurgeryError as error:
        raise SurgeryError(f"the branch of {unit.name!r} cannot be taken out: {error}.") from None
