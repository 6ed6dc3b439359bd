"""Removes units for good, on a copy, and proves the result by running it."""

from __future__ import annotations

import copy
import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from srinit import modules
from srinit.errors import PlanError, SurgeryError
from srinit.plan import PrunePlan
from srinit.specs import example_from
from srinit.surgery.config import follow_cut
from srinit.units.choose import CONTAINERS
from srinit.units.records import Unit
from srinit.units.trace import locate
from srinit.units.verify import difference, run, stand_in

OnRemoved = Callable[[nn.Module, tuple[str, ...]], None]


def apply_plan(
    model: nn.Module,
    plan: PrunePlan,
    *,
    example_inputs: Any = None,
    on_removed: OnRemoved | None = None,
) -> nn.Module:
    """Return a copy of `model` without the units of a plan; see `remove_units`.

    Args:
        model: The network the plan was made for; not touched.
        plan: The plan.
        example_inputs: For the check of the result; by default made from `plan.inputs`.
        on_removed: Called with the copy and the names that went, before the check, for what
            only the caller knows of the network.

    Raises:
        PlanError: The plan names a unit the network does not have.
        SurgeryError: The result does not run, or its output has another form.
    """
    units = [removal.unit for removal in plan.remove]
    if example_inputs is None and plan.inputs is not None:
        example_inputs = example_from(plan.inputs, device=modules.device_of(model))
    return remove_units(model, units, example_inputs=example_inputs, on_removed=on_removed)


def remove_units(
    model: nn.Module,
    units: Iterable[Unit],
    *,
    example_inputs: Any = None,
    on_removed: OnRemoved | None = None,
) -> nn.Module:
    """Return a copy of `model` without the given units; `model` is not touched.

    Elements of containers are deleted where that gives the same output as skipping them, so that
    nothing of them is left; elsewhere a pass-through takes their place. Blocks that change the
    shape keep their shortcut.

    Args:
        model: The network the units were found in.
        units: What goes, in any order.
        example_inputs: For the comparison and the check; without them pass-throughs stay and
            nothing is checked.
        on_removed: Called with the copy and the names that went, before the check.

    Raises:
        PlanError: There is no submodule of a unit's name.
        SurgeryError: The result does not run, or its output has another form.
    """
    chosen = list(units)
    check_names(model, chosen)
    skipped = _copied(model)
    for unit in chosen:
        original = skipped.get_submodule(unit.name)
        put(skipped, unit.name, stand_in(original, unit))
    finish = _finisher(chosen, on_removed)
    if example_inputs is None:
        return finish(skipped)
    expected = _run(model, example_inputs, chosen)
    reference = _run(skipped, example_inputs, chosen)
    problem = difference(expected, reference)
    if problem:
        raise SurgeryError(f"without {_names(chosen)} {problem}; keep some of them.")
    result = finish(_compacted(skipped, chosen, example_inputs, reference))
    problem = difference(reference, _run(result, example_inputs, chosen))
    if problem:
        raise SurgeryError(f"after removing {_names(chosen)} {problem}; keep some of them.")
    return result


def _finisher(units: Sequence[Unit], on_removed: OnRemoved | None) -> Callable[..., nn.Module]:
    def finish(model: nn.Module) -> nn.Module:
        names = tuple(unit.name for unit in units)
        follow_cut(model, names)
        if on_removed is not None:
            on_removed(model, names)
        return model

    return finish


def check_names(model: nn.Module, units: Sequence[Unit]) -> None:
    """Raise `PlanError` unless every unit is a submodule, named once and inside no other."""
    there = {name for name, _ in model.named_modules(remove_duplicate=False)}
    for unit in units:
        if unit.name not in there or not unit.name:
            close = difflib.get_close_matches(unit.name, there, n=1, cutoff=0.0)
            raise PlanError(
                f"the plan removes {unit.name!r}, and {type(model).__name__} has no such "
                f"submodule (nearest: {close[0]!r}); plans use the names of the unpruned network."
            )
    names = [unit.name for unit in units]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise PlanError(f"the plan removes {twice[0]!r} twice; name it once.")
    for name in names:
        if any(name.startswith(f"{other}.") for other in names):
            raise PlanError(f"{name!r} lies inside another unit of the plan; name only one.")


def _copied(model: nn.Module) -> nn.Module:
    """Return a deep copy; parameters that need gradients may be results, so they are detached."""
    return copy.deepcopy(model)


def put(model: nn.Module, name: str, replacement: nn.Module) -> None:
    """Register `replacement` under `name`, in place."""
    parent, last = modules.parent_of(model, name)
    parent._modules[last] = replacement


def _run(model: nn.Module, inputs: Any, units: Sequence[Unit]) -> Any:
    try:
        return run(model, inputs)
    except Exception as error:
        raise SurgeryError(
            f"without {_names(units)} the network does not run: {type(error).__name__}: {error}"
        ) from error


def _names(units: Sequence[Unit]) -> str:
    names = [unit.name for unit in units]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _compacted(skipped: nn.Module, units: Sequence[Unit], inputs: Any, reference: Any) -> nn.Module:
    """Return the network with container entries deleted, where that changes no output."""
    by_container: dict[str, list[str]] = {}
    for unit in units:
        path, _, last = unit.name.rpartition(".")
        if unit.kind != "branch" and isinstance(skipped.get_submodule(path), CONTAINERS):
            by_container.setdefault(path, []).append(last)
    if not by_container:
        return skipped
    whole = deleted(skipped, by_container)
    if _same(whole, inputs, reference):
        return whole
    current = skipped
    for path, entries in by_container.items():
        attempt = deleted(current, {path: entries})
        if _same(attempt, inputs, reference):
            current = attempt
    return current


def deleted(model: nn.Module, by_container: Mapping[str, Sequence[str]]) -> nn.Module:
    """Return a copy without some entries of containers; the others move up."""
    result = copy.deepcopy(model)
    for path, entries in by_container.items():
        container = result.get_submodule(path)
        kept = [(key, child) for key, child in container._modules.items() if key not in entries]
        numbered = all(key.isdigit() for key in container._modules)
        container._modules.clear()
        for index, (key, child) in enumerate(kept):
            container._modules[str(index) if numbered else key] = child
    return result


def _same(model: nn.Module, inputs: Any, reference: Any) -> bool:
    """Tell whether a network gives exactly the reference output."""
    try:
        found = run(model, inputs)
    except Exception:  # indices that are gone, lists that no longer match
        return False
    one, other = list(locate(reference)), list(locate(found))
    if [path for path, _ in one] != [path for path, _ in other]:
        return False
    pairs = zip(one, other, strict=True)
    return all(a.is_meta or torch.equal(a, b) or _both_nan(a, b) for (_, a), (_, b) in pairs)


def _both_nan(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool(
        torch.isclose(one.double(), other.double(), rtol=0, atol=0, equal_nan=True).all()
    )
