"""Weights from files that cannot run code: safetensors, or `.pt` read as a state dict only."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from srinit.errors import CheckpointError, IntegrityError, UnsafeError
from srinit.store import sha256_file

WRAPPERS = ("state_dict", "model_state_dict", "model")  # where trainers put the state dict
PREFIXES = {"module.": "DataParallel", "_orig_mod.": "torch.compile"}
CONVERT = """Convert it once, where it was made and with the code that defines the model:
    import torch
    from safetensors.torch import save_file
    model = torch.load({name!r}, map_location="cpu", weights_only=False)
    save_file({{k: v.contiguous().clone() for k, v in model.state_dict().items()}}, {new!r})"""

Note = Callable[[str], None]


def read_weights(
    path: Path, *, sha256: str | None = None, on_note: Note | None = None
) -> dict[str, Tensor]:
    """Return the state dict of a file, on the CPU.

    A `.pt`, `.pth`, `.bin` or `.ckpt` is read with torch's weights-only reader, which builds
    tensors and nothing else; there is no fallback. A state dict inside {"state_dict": ...}, and
    names that all begin with "module." or "_orig_mod.", are unwrapped, and `on_note` is told.

    Args:
        path: The file.
        sha256: Hash that the file must have, in hexadecimal.
        on_note: Called with one sentence for everything that was changed or left out.

    Raises:
        UnsafeError: The file holds pickled objects other than tensors, such as a whole module.
        IntegrityError: Its hash is another.
        CheckpointError: The file is missing, damaged, or holds no tensors.
    """
    note = on_note or (lambda _: None)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CheckpointError(f"the weights file {path} {what}.")
    if sha256 is not None and sha256_file(path) != sha256.lower():
        raise IntegrityError(
            f"{path} is not the file that was named: its SHA-256 is {sha256_file(path)}, "
            f"expected {sha256.lower()}. It was damaged or replaced."
        )
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickle(path)
    return _unwrapped(content, path, note)


def _safetensors(path: Path) -> object:
    try:
        return dict(load_file(path))
    except (SafetensorError, ValueError, OSError, MemoryError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is damaged or no safetensors file: {reason}.") from None


def _pickle(path: Path) -> object:
    zipped = zipfile.is_zipfile(path)
    if zipped:
        _check_archive(path)
    elif not _looks_pickled(path):
        raise CheckpointError(f"{path} is damaged, or no checkpoint of PyTorch.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except UnpicklingError as error:
        if "Unsupported operand" in str(error) and not zipped:  # not even a pickle
            raise CheckpointError(f"{path} is damaged, or no checkpoint of PyTorch.") from None
        raise UnsafeError(
            f"{path} holds pickled objects, which run code when they are read; it is refused. "
            + CONVERT.format(name=path.name, new=f"{path.stem}.safetensors")
        ) from None
    except Exception as error:  # the reader raises errors of every kind on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is damaged or no checkpoint: {reason}.") from None


def _check_archive(path: Path) -> None:
    """Compare the checksum of every part of a `.pt` archive, which PyTorch does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
            names = archive.namelist()
    except Exception as error:  # zlib, struct and zipfile have errors of their own
        raise CheckpointError(f"{path} is damaged: {error}.") from None
    if bad is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of its part {bad} is wrong.")
    if any(name.endswith("/constants.pkl") for name in names):
        raise UnsafeError(
            f"{path} is a TorchScript program, which is code; it is refused. Save the state dict "
            "of the model it was made from: torch.save(model.state_dict(), 'model.pt')"
        )


def _looks_pickled(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80"


def _unwrapped(content: object, path: Path, note: Note) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            others = [str(other) for other in content if other != key]
            note(f"{path.name}: the weights under {key!r} are used, not {others}" if others else
                 f"{path.name}: the weights under {key!r} are used")  # fmt: skip
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds {type(content).__name__}, no state dict.")
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        keys = ", ".join(map(str, content))
        raise CheckpointError(f"{path} holds no tensors (its keys: {keys[:80]}).")
    if len(state) < len(content):
        rest = [str(name) for name in content if str(name) not in state]
        note(f"{path.name}: {len(rest)} entries are no tensors and are left out ({rest[:3]})")
    for prefix, maker in PREFIXES.items():
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
            note(f"{path.name}: the prefix {prefix!r} of {maker} was taken off all names")
    return state
