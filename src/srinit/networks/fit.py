"""Puts weights into a model, strictly: everything fits, or nothing is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.errors import CheckpointError


def load_weights(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    where: str,
    on_note: Callable[[str], None] | None = None,
) -> None:
    """Load a state dict into `model`, strictly; on an error the model is as it was.

    A tensor that the model ties to another one may be missing, as safetensors stores it once.

    Args:
        model: Changed in place.
        state: Tensors by name.
        where: The file they come from, for messages.
        on_note: Called with one sentence for everything worth knowing, such as another type.

    Raises:
        CheckpointError: Missing, unexpected or misshapen entries; the first of each is named.
    """
    wanted = {k: v for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    state = {**_tied(wanted, state), **state}
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    misshapen = [
        f"{name} ({tuple(state[name].shape)} instead of {tuple(value.shape)})"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    problems = [
        f"{len(names)} {kind}, the first {names[0]}" for kind, names in kinds.items() if names
    ]
    if problems:
        raise CheckpointError(
            f"{where} does not fit {type(model).__name__}: {'; '.join(problems)}. "
            + _advice(wanted, state)
        )
    if on_note is not None:
        _note_types(wanted, state, where, on_note)
    modules.load_state(model, state, strict=False)  # extra state that is no tensor stays


def _tied(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the missing entries that share their memory in the model with a given one."""
    places = {_place(wanted[name]): name for name in wanted if name in state}
    return {
        name: state[places[_place(value)]]
        for name, value in wanted.items()
        if name not in state and value.numel() and _place(value) in places
    }


def _place(tensor: Tensor) -> tuple[object, ...]:
    if tensor.is_meta:
        return (id(tensor),)
    return (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _advice(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    prefix = next(iter(state), "").partition(".")[0] + "."
    if state and all(name.startswith(prefix) for name in state):
        inner = {name.removeprefix(prefix) for name in state}
        if inner == set(wanted):
            return (
                f"Without the {prefix!r} that all its names begin with it would fit: "
                "save the state dict of the inner model."
            )
    return "Check model.source and model.args (depth, number of classes)."


def _note_types(
    wanted: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    where: str,
    on_note: Callable[[str], None],
) -> None:
    other = [name for name, value in wanted.items() if state[name].dtype != value.dtype]
    if other:
        kinds = f"{state[other[0]].dtype} instead of {wanted[other[0]].dtype}"
        on_note(f"{where}: {len(other)} tensors are converted ({kinds}), the first {other[0]}")
    broken = [
        name
        for name, value in state.items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if broken:
        on_note(f"{where}: {len(broken)} tensors hold NaN or infinity, the first {broken[0]}")
