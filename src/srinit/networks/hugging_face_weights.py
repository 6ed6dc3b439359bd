"""Weights of transformers' folders: all of the network's come from the files, or none are taken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from srinit.errors import CheckpointError, UnsafeError
from srinit.networks.weights import CONVERT

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHOWN = 3  # names of a list in a message
UNTRAINED = (
    "Give the file as model.weights, or name the config alone (hf:FOLDER/config.json) "
    "for a network that is not trained."
)


def check_folder(folder: Path, where: str) -> None:
    """Refuse a folder whose weights are not all there, or are pickled, before anything is built.

    Raises:
        CheckpointError: There are no weights, or files that an index names are missing.
        UnsafeError: There are pickled weights only.
    """
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{where} is an adapter (adapter_config.json), not a network. Merge it into its base "
            "and save that: merge_and_unload(), save_pretrained()."
        )
    if (folder / WEIGHTS).is_file():
        return
    if (folder / INDEX).is_file():
        _check_index(folder, where)
        return
    others = sorted(path.name for path in folder.glob("*.safetensors"))
    pickled = sorted(path.name for kind in ("*.bin", "*.pt", "*.pth") for path in folder.glob(kind))
    if others:
        raise CheckpointError(
            f"{where} holds no {WEIGHTS} and no {INDEX}, but {_some(others)}. {UNTRAINED}"
        )
    if pickled:
        name = pickled[0]
        raise UnsafeError(
            f"{where} holds pickled weights only ({_some(pickled)}), which may run code when they "
            f"are read; they are refused. Give the file as model.weights, where tensors alone are "
            f"read of it, if it is the only one. {CONVERT.format(name=name, new=WEIGHTS)}"
        )
    raise CheckpointError(
        f"{where} holds no weights ({WEIGHTS}); the network would be random. {UNTRAINED}"
    )


def _check_index(folder: Path, where: str) -> None:
    try:
        places = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
        files = sorted({str(file) for file in places.values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{where}: {INDEX} cannot be read: {error}.") from None
    outside = [name for name in files if Path(name).name != name]
    if outside:
        raise UnsafeError(f"{where}: {INDEX} names {outside[0]!r}, a file of another folder.")
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{where}: {INDEX} names {len(files)} files, and {len(missing)} of them are missing: "
            f"{_some(missing)}. Copy the whole folder again."
        )


def check_loaded(
    model: nn.Module,
    info: Mapping[str, Any],
    where: str,
    *,
    chosen: bool,
    on_note: Callable[[str], None],
) -> None:
    """Refuse a network part of which did not come from the files.

    Args:
        model: What was loaded.
        info: `output_loading_info` of transformers, which knows what is tied or computed.
        where: The folder, for messages.
        chosen: The user named the class; then a head that this class lacks may be left out.
        on_note: Told of that.

    Raises:
        CheckpointError: Missing, unexpected or misshapen tensors; the first of them are named.
    """
    unexpected = sorted(info["unexpected_keys"])
    beyond = [name for name in unexpected if _is_beyond(model, name)] if chosen else []
    misshapen = sorted(
        f"{name} ({tuple(found)} instead of {tuple(wanted)})"
        for name, found, wanted in info["mismatched_keys"]
    )
    kinds = {
        "missing": sorted(info["missing_keys"]),
        "unexpected": [name for name in unexpected if name not in beyond],
        "misshapen": misshapen,
    }
    problems = [
        f"{len(names)} {kind}: {_some(names, '; ' if kind == 'misshapen' else ', ')}"
        for kind, names in kinds.items()
        if names
    ]
    if problems:
        raise CheckpointError(
            f"the weights of {where} do not fit {type(model).__name__}: {'. '.join(problems)}. "
            + _advice(model, kinds, chosen=chosen)
        )
    if beyond:
        on_note(
            f"{where}: {len(beyond)} tensors are left out, as {type(model).__name__} has no place "
            f"for them ({_some(beyond)})"
        )


def _advice(model: nn.Module, kinds: Mapping[str, list[str]], *, chosen: bool) -> str:
    rest = "Check the config (or model.args), and that the folder was copied whole."
    if chosen:
        return f"What is missing would be random. Name the class that was trained. {rest}"
    if kinds["unexpected"] and not kinds["missing"] and not kinds["misshapen"]:
        if all(_is_beyond(model, name) for name in kinds["unexpected"]):
            return (
                "If they are not needed, say so by naming the class: "
                f"model.args.auto: {type(model).__name__}"
            )
        return f"The network would lack them. {rest}"
    return f"What is missing would be random. {rest}"


def _is_beyond(model: nn.Module, name: str) -> bool:
    """Tell whether a tensor belongs to a part that the network lacks as a whole, such as a head.

    An entry of a list of layers is no such part, nor is a tensor beside others of one module.
    """
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    if name.startswith(prefix) and not hasattr(model, prefix[:-1]):
        name = name.removeprefix(prefix)
    place = model
    for step in name.split("."):
        if isinstance(place, nn.ModuleList | nn.Sequential | nn.ModuleDict):
            return False
        if step not in place._modules or place._modules[step] is None:
            break
        place = place._modules[step]  # type: ignore[assignment]
    return not place._parameters or bool(place._modules)


def _some(names: Iterable[str], between: str = ", ") -> str:
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return between.join(listed[:SHOWN]) + more
