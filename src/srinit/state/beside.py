"""What a network computes with and its `state_dict` leaves out, for files: buffers, attributes.

Buffers that are not persistent, and tensors kept as plain attributes, may be changed after the
network was built (a rotary frequency scaled for longer texts), and nothing of a checkpoint says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn

BUFFER, ATTRIBUTE = "buffer:", "attribute:"


def tensors_beside(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a network that its state dict leaves out, by what and where they are.

    Left out are tensors that share the memory of a saved one, results with a gradient, and tensors
    inside of lists and other objects.

    Example:
        >>> net = nn.ReLU()
        >>> net.register_buffer("scale", torch.ones(2), persistent=False)
        >>> tensors_beside(net)
        {'buffer:scale': tensor([1., 1.])}
    """
    saved = {t.data_ptr() for t in model.state_dict().values() if isinstance(t, Tensor)}
    found = {}
    for path, module in model.named_modules():
        for kind, name, tensor in _beside(module):
            plain = tensor.layout is torch.strided and not tensor.is_meta
            computed = tensor.grad_fn is not None
            if plain and not computed and not (tensor.numel() and tensor.data_ptr() in saved):
                found[f"{kind}{_joined(path, name)}"] = tensor.detach()
    return found


def _beside(module: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    for name, buffer in module._buffers.items():
        if buffer is not None and name in module._non_persistent_buffers_set:
            yield BUFFER, name, buffer
    for name, value in vars(module).items():
        if type(value) is Tensor:
            yield ATTRIBUTE, name, value


def is_beside(key: str) -> bool:
    """Return whether a key is one of `tensors_beside`."""
    return key.startswith((BUFFER, ATTRIBUTE))


def put_beside(model: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Give a network what `tensors_beside` returned, in place; return what has no place in it."""
    lost = []
    for key, tensor in tensors.items():
        kind, _, full = key.partition(":")
        path, _, name = full.rpartition(".")
        try:
            module = model.get_submodule(path)
        except AttributeError:
            lost.append(full)
            continue
        held = vars(module).get(name, module._buffers.get(name))
        if not isinstance(held, Tensor | None) or (held is None and hasattr(type(module), name)):
            lost.append(full)
        elif kind == "attribute":
            vars(module)[name] = tensor
        else:
            vars(module).pop(name, None)
            module.register_buffer(name, tensor, persistent=False)
    return lost


def empty_entries(model: nn.Module) -> tuple[str, ...]:
    """Return the names of parameters and buffers that are registered as None."""
    return tuple(
        _joined(path, name)
        for path, module in model.named_modules()
        for table in (module._parameters, module._buffers)
        for name, value in table.items()
        if value is None
    )


def fit_entries(model: nn.Module, state: Mapping[str, Tensor], empty: Collection[str]) -> None:
    """Register None where `empty` says so, and room for what `state` holds in its place."""
    for path, module in model.named_modules():
        for table in (module._parameters, module._buffers):
            for name, value in list(table.items()):
                full = _joined(path, name)
                if value is not None and full in empty and full not in state:
                    table[name] = None
                elif value is None and full in state:
                    room = torch.empty_like(state[full])
                    kept = table is module._parameters
                    table[name] = nn.Parameter(room, room.is_floating_point()) if kept else room


def frozen(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the parameters that no gradient is computed for."""
    return tuple(name for name, p in model.named_parameters() if not p.requires_grad)


def freeze(model: nn.Module, names: Collection[str]) -> None:
    """Compute gradients for all parameters but these."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() or parameter.is_complex():
            parameter.requires_grad_(name not in names)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
