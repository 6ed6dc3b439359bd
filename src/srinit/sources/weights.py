"""Weights from files that cannot run code: safetensors, or `.pt` read as a state dict only."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from srinit.errors import CheckpointError, UnsafeError

WRAPPERS = ("state_dict", "model_state_dict", "model")  # where trainers put the state dict
CONVERT = (
    "Convert it once, where it was made: import torch; from safetensors.torch import save_file; "
    "model = torch.load(FILE, weights_only=False); "
    "save_file({k: v.contiguous() for k, v in model.state_dict().items()}, 'model.safetensors')"
)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a file, on the CPU.

    A `.pt`, `.pth`, `.bin` or `.ckpt` is read with torch's weights-only reader, which builds
    tensors and nothing else. A state dict inside {"state_dict": ...}, and names that all begin
    with "module.", are unwrapped.

    Raises:
        UnsafeError: The file holds pickled objects other than tensors, such as a whole module.
        CheckpointError: The file is missing, damaged, or holds no tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}.")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except (SafetensorError, ValueError, OSError) as error:
            raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from None
    try:
        with warnings.catch_warnings():  # of other pickle protocols; what counts is what is found
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except UnpicklingError:
        raise UnsafeError(
            f"{path} holds pickled objects, which run code when they are read; it is refused. "
            + CONVERT
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is damaged or no checkpoint: {reason}") from None
    return _unwrapped(content, path)


def _unwrapped(content: object, path: Path) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds {type(content).__name__}, no state dict.")
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise CheckpointError(
            f"{path} holds no tensors (keys: {', '.join(map(str, content))[:80]})."
        )
    if all(name.startswith("module.") for name in state):  # saved from DataParallel or DDP
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def load_weights(model: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Load a state dict into `model`, strictly.

    Raises:
        CheckpointError: Missing, unexpected or misshapen entries; the first of each is named.
    """
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    misshapen = [
        f"{name} ({tuple(state[name].shape)} instead of {tuple(value.shape)})"
        for name, value in wanted.items()
        if isinstance(value, Tensor) and name in state and state[name].shape != value.shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    problems = [
        f"{len(names)} {kind}, the first {names[0]}" for kind, names in kinds.items() if names
    ]
    if problems:
        raise CheckpointError(
            f"{where} does not fit {type(model).__name__}: {'; '.join(problems)}. "
            "Check model.source and model.args (depth, number of classes)."
        )
    model.load_state_dict(dict(state), strict=True)
