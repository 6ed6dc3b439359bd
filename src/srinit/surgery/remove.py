"""Removes units for good, on a copy, and proves the result by running it."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from srinit import modules
from srinit.copying import Pairs, detached_copy
from srinit.errors import PlanError, SurgeryError
from srinit.evaluate import inputs_of
from srinit.plan import PrunePlan
from srinit.recording import within
from srinit.specs import example_from
from srinit.surgery.cache import check_cache
from srinit.surgery.compact import compact, outputs, same
from srinit.surgery.config import follow_cut
from srinit.surgery.perturb import SHAKE
from srinit.surgery.reload import prove_reload
from srinit.surgery.replace import deletable, replace_units
from srinit.units.bypass import PassThroughFor
from srinit.units.fingerprint import check_fits
from srinit.units.records import Unit
from srinit.units.verify import difference, run

LARGE = 1 << 16  # numbers of a parameter from which it may be shared
OnRemoved = Callable[[nn.Module, tuple[str, ...]], None]


def apply_plan(
    model: nn.Module,
    plan: PrunePlan,
    *,
    example_inputs: object = None,
    on_removed: OnRemoved | None = None,
    passthrough: PassThroughFor | None = None,
    share: bool = False,
) -> nn.Module:
    """Return a copy of `model` without the units of a plan; see `remove_units`.

    Args:
        model: The network the plan was made for; not touched.
        plan: The plan.
        example_inputs: For the check of the result; by default made from `plan.inputs`.
        on_removed: Called with the copy and the names that went, before the last check, for
            what only the caller knows of the network.
        passthrough: Your own stand-ins for removed units.
        share: Let large weights use the memory of `model`'s, for networks that fit only once: to
            be saved or measured, not trained, as what changes one changes the other. The check
            that no layer is without effect then puts noise only on small or nearly zero weights.

    Raises:
        PlanError: The plan was made for another network, by the names and shapes of its tensors;
            its values, number format and device do not matter.
        SurgeryError: The result does not run, or its output has another form.

    Example:
        >>> import torch
        >>> from srinit.plan import Removal
        >>> from srinit.units import find_units
        >>> layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        >>> model = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        >>> units = find_units(model, torch.zeros(2, 4, 8))
        >>> gone = (Removal(unit=units["layers.1"]),)
        >>> plan = PrunePlan(
        ...     remove=gone, ranking=(), prefixes=(), target={}, criterion="", inputs=units.inputs
        ... )
        >>> len(apply_plan(model, plan).layers), len(model.layers)
        (2, 3)
    """
    if not isinstance(plan, PrunePlan):
        raise TypeError(f"plan is a PrunePlan, as make_plan gives, not {type(plan).__name__}.")
    units = [removal.unit for removal in plan.remove]
    if example_inputs is None and plan.inputs is not None:
        example_inputs = example_from(plan.inputs, device=modules.device_of(model))
    return remove_units(
        model,
        units,
        example_inputs=example_inputs,
        on_removed=on_removed,
        passthrough=passthrough,
        share=share,
    )


def remove_units(
    model: nn.Module,
    units: Iterable[Unit],
    *,
    example_inputs: object = None,
    on_removed: OnRemoved | None = None,
    passthrough: PassThroughFor | None = None,
    share: bool = False,
) -> nn.Module:
    """Return a copy of `model` without the given units; `model` is not touched.

    Elements of containers are deleted where that gives the same output as skipping them, so that
    nothing of them is left; elsewhere a pass-through takes their place. Blocks that change the
    shape keep their shortcut. Configs of Hugging Face networks follow the cut, and cached
    decoding is proved where there is any.

    Args:
        model: The network the units were found in.
        units: What goes, in any order.
        example_inputs: For the comparison and the check.
        on_removed: Called with the copy and the names that went, before the last check.
        passthrough: Your own stand-ins for removed units.
        share: See `apply_plan`.

    Raises:
        PlanError: The units were found in another network, or there are no example inputs.
        SurgeryError: The result does not run, or its output has another form.
    """
    result, _ = remove_with_origins(
        model,
        units,
        example_inputs=example_inputs,
        on_removed=on_removed,
        passthrough=passthrough,
        share=share,
    )
    return result


def remove_with_origins(
    model: nn.Module,
    units: Iterable[Unit],
    *,
    example_inputs: object = None,
    on_removed: OnRemoved | None = None,
    passthrough: PassThroughFor | None = None,
    share: bool = False,
) -> tuple[nn.Module, dict[str, str]]:
    """Return what `remove_units` returns, and where its tensors come from.

    Returns:
        The pruned copy, and for every key of its `state_dict` the key that the same tensor has
        in the model; entries of containers are numbered anew by a removal. Tensors that the
        surgery made have no entry.
    """
    chosen = list(units)
    check_names(model, chosen)
    example_inputs = inputs_of(example_inputs, model)
    check_fits(model, chosen)
    if example_inputs is None:
        raise PlanError(
            "the result of a surgery is checked by running it, and the plan describes no inputs; "
            "pass example_inputs=..., one batch that the network takes."
        )
    names = tuple(unit.name for unit in chosen)
    result, pairs = detached_copy(model, example_inputs, shared=_is_large if share else None)
    pairs = [pair for pair in pairs if pair[0].data_ptr() != pair[1].data_ptr()]
    keys = {id(tensor): key for key, tensor in result.state_dict(keep_vars=True).items()}
    result = replace_units(result, chosen, passthrough=passthrough)
    reference = _run_twice(result, example_inputs, pairs, names)
    problem = difference(_run(model, example_inputs, ()), reference[0])
    if problem:
        raise SurgeryError(f"without {_listed(names)} {problem}; keep some of them.")
    cuts = compact(
        result,
        deletable(result, chosen),
        example_inputs,
        pairs,
        lambda done: follow_cut(result, done, names),
        reference=reference,
    )
    if not cuts:  # what was cut has been compared
        follow_cut(result, {}, names)
        if not all(map(same, reference, outputs(result, example_inputs, pairs))):
            raise SurgeryError(
                f"after removing {_listed(names)} the layers that are left answer differently "
                "once they are numbered anew; this network scales its layers by their place. "
                "Keep them."
            )
    if all(cut.after for cut in cuts.values()):  # without any layer there is no cache
        check_cache(model, result, example_inputs, _listed(names))
    if on_removed is not None:
        on_removed(result, names)
        problem = difference(reference[0], _run(result, example_inputs, names))
        if problem:
            raise SurgeryError(f"after on_removed {problem}.")
    prove_reload(result, example_inputs)
    found = result.state_dict(keep_vars=True).items()
    return result, {key: keys[id(tensor)] for key, tensor in found if id(tensor) in keys}


def _is_large(parameter: Tensor) -> bool:
    """Tell whether a parameter is large enough to be shared, and far enough from zero."""
    if type(parameter) is not nn.Parameter or parameter.numel() < LARGE or parameter.is_meta:
        return False
    low, high = parameter.detach().aminmax()
    return float(max(-low, high)) > SHAKE


def check_names(model: nn.Module, units: Sequence[Unit]) -> None:
    """Raise `PlanError` unless every unit is a submodule, named once and inside no other."""
    there = {name for name, _ in model.named_modules(remove_duplicate=False)}
    for unit in units:
        for name in (unit.name, *unit.parts, *unit.also):
            if name not in there or not name:
                close = difflib.get_close_matches(name, there, n=1, cutoff=0.0)
                raise PlanError(
                    f"the plan removes {name!r}, and {type(model).__name__} has no such "
                    f"submodule (nearest: {close[0]!r}); plans use the names of the unpruned "
                    "network."
                )
    names = [unit.name for unit in units]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise PlanError(f"the plan removes {twice[0]!r} twice; name it once.")
    for name in names:
        outer = [other for other in names if other != name and within(name, other)]
        if outer:
            raise PlanError(f"{name!r} lies inside {outer[0]!r} of the same plan; name only one.")


def _run_twice(model: nn.Module, inputs: object, pairs: Pairs, names: Sequence[str]) -> list[Any]:
    """Return the outputs of a copy as it is, and with noise on its parameters."""
    try:
        return outputs(model, inputs, pairs)
    except Exception as error:  # the model's own code may fail in any way
        raise _fails(error, names) from error


def _run(model: nn.Module, inputs: object, names: Sequence[str]) -> Any:
    try:
        return run(model, inputs)
    except Exception as error:  # the model's own code may fail in any way
        raise _fails(error, names) from error


def _fails(error: Exception, names: Sequence[str]) -> SurgeryError:
    without = f"without {_listed(names)} " if names else ""
    return SurgeryError(f"{without}the network does not run: {type(error).__name__}: {error}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
