"""In which number format and memory layout a network is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.engine import has_fast_bfloat16
from srinit.errors import ConfigError
from srinit.finetune.records import Recipe

LARGE = 200_000  # weights from which bfloat16 gained on a CPU
IMAGES = 4  # dimensions of what a convolution over pictures reads


def precision_of(recipe: Recipe, model: nn.Module) -> str:
    """Return the number format of the forward pass: "auto" follows device and network.

    bfloat16 on a GPU; on a CPU that multiplies in it, for networks with as many weights as make it
    pay, but not for those with depthwise convolutions, which it slows down (docs/finetune.md).
    """
    if recipe.precision != "auto":
        return recipe.precision
    device = modules.device_of(model)
    if device.type != "cpu":
        return "bfloat16" if device.type == "cuda" else "float32"
    gains = has_fast_bfloat16(device) and modules.count_params(model) >= LARGE
    return "bfloat16" if gains and not _has_depthwise(model) else "float32"


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the arithmetic of the forward pass; weights and updates stay as they are."""
    kind = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, kind, enabled=precision != "float32")


@contextmanager
def checkpointed(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Hold a network of transformers so that it computes layers again in the backward pass.

    Raises:
        ConfigError: The recipe asks for it, and the network has no words for it.
    """
    if not recipe.checkpointing:
        yield
        return
    word = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    enable = getattr(model, f"{word}_checkpointing_enable", None)
    if not callable(enable) or not getattr(model, "supports_gradient_checkpointing", False):
        raise ConfigError(
            f"finetune.checkpointing: {type(model).__name__} does not support it (that of "
            "transformers, gradient_checkpointing_enable); use finetune.micro_batch."
        )
    config: Any = model.config
    uses_cache = getattr(config, "use_cache", None)
    enable({"use_reentrant": False})
    try:
        if uses_cache:
            config.use_cache = False
        yield
    finally:
        getattr(model, f"{word}_checkpointing_disable")()
        if uses_cache:
            config.use_cache = uses_cache


def is_laid_out(model: nn.Module) -> bool:
    """Return whether a network runs faster with channels last: it convolves pictures."""
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


@contextmanager
def laid_out(model: nn.Module) -> Iterator[None]:
    """Hold a network that convolves pictures with channels last; its layout is put back."""
    if not is_laid_out(model):
        yield
        return
    before = [(tensor, tensor.is_contiguous()) for tensor in _pictures(model)]
    try:
        lay_out(model)
        yield
    finally:
        for tensor, was_contiguous in before:
            if was_contiguous:
                tensor.data = tensor.data.contiguous()


def lay_out(model: nn.Module) -> None:
    """Lay the weights and buffers of pictures channels last, in place; what is shared stays so.

    `Module.to(memory_format=...)` refuses networks with tensors of five dimensions, and gives
    modules that share a buffer each its own.
    """
    for tensor in _pictures(model):
        tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)


def _pictures(model: nn.Module) -> list[Tensor]:
    """Return the floating tensors of four dimensions, each once."""
    found = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return [t for t in found.values() if t.ndim == IMAGES and t.is_floating_point()]


def inputs_as(model: nn.Module, inputs: Any) -> Any:
    """Return a batch in the layout of the network."""
    if not is_laid_out(model):
        return inputs

    def laid(tensor: Tensor) -> Tensor:
        pictures = tensor.ndim == IMAGES and tensor.is_floating_point()
        return tensor.contiguous(memory_format=torch.channels_last) if pictures else tensor

    return modules.tree_map(laid, inputs)


def _has_depthwise(model: nn.Module) -> bool:
    return any(
        isinstance(module, nn.Conv2d) and module.groups > 1 and module.groups == module.in_channels
        for module in model.modules()
    )
