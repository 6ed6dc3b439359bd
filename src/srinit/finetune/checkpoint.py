"""The state of a fine-tuning in one file: tensors in safetensors, counters in its header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from srinit import store
from srinit.errors import CheckpointError

SCHEMA = "srinit.finetune-state/1"


def write(
    path: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    extra: dict[str, dict[str, Tensor]],
    counters: dict[str, Any],
) -> None:
    """Write everything that the next step depends on, atomically.

    Args:
        path: A `.safetensors` file.
        model: Its state dict is kept.
        optimizer: Its state is kept, by the position of the parameter.
        extra: Further state dicts by name, such as the best weights.
        counters: Numbers and texts, as JSON.

    Raises:
        CheckpointError: An entry of the network is no tensor.
    """
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
    for group, entries in extra.items():
        tensors |= {f"{group}/{name}": value for name, value in entries.items()}
    odd = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if odd:
        raise CheckpointError(
            f"the state of fine-tuning cannot be kept: {odd[0].partition('/')[2]!r} of the network "
            "is no tensor (get_extra_state); make it a buffer."
        )
    plain = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    header = {"schema": SCHEMA, "counters": json.dumps(counters)}
    store.write_bytes(path, save(plain, metadata=header))


def read(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Return the state dicts by group ("model", "optimizer", ...) and the counters.

    Raises:
        CheckpointError: The file is damaged.
    """
    groups: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            counters = json.loads(header["counters"])
            for key in file.keys():  # noqa: SIM118 - not a dict
                group, _, name = key.partition("/")
                groups.setdefault(group, {})[name] = file.get_tensor(key)
    except (SafetensorError, ValueError, KeyError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); delete it to begin fine-tuning again."
        ) from None
    return groups, counters


def restore_optimizer(optimizer: torch.optim.Optimizer, entries: dict[str, Tensor]) -> None:
    """Put the tensors that `write` kept back into an optimizer of the same parameters."""
    body = optimizer.state_dict()
    state: dict[int, dict[str, Any]] = {}
    for name, value in entries.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": body["param_groups"]})
