"""The scan's own copy of a model: the caller's is never touched.

The copy has its own module objects. Its tensors are shared with the caller's model, which costs
no memory and moves nothing, unless cheaper arithmetic pays: then they are its own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from srinit import modules
from srinit.errors import ModelError
from srinit.sensitivity.folding import Pair, fold, pairs_of
from srinit.sensitivity.fusing import fuse

Precision = Literal["auto", "keep", "bfloat16", "float16"]


def shared_copy(model: nn.Module) -> nn.Module:
    """Return a copy of `model` in evaluation mode whose tensors are those of `model`.

    Raises:
        ModelError: The model refuses to be copied.
    """
    tensors = [*model.parameters(), *model.buffers()]
    memo: dict[int, Any] = {id(tensor): tensor for tensor in tensors}
    return _copied(model, memo).eval()


def cheaper_copy(
    model: nn.Module, dtype: torch.dtype, inputs: Any, units: Sequence[str]
) -> tuple[nn.Module, tuple[Pair, ...]]:
    """Return a copy with its own tensors in `dtype`, cheaper to run, and what was folded in it.

    Batch normalization is folded into the layer before it, and on a CPU additions and ReLUs are
    done by the convolution before them, where a forward on `inputs` shows the same output;
    images are laid out with channels last.
    """
    fresh, pairs = _folded(model, inputs, units)
    fresh = convert(fresh, dtype)
    if dtype is not torch.bfloat16 or modules.device_of(fresh).type != "cpu":
        return fresh, pairs
    ready = inputs_for(fresh, inputs, modules.device_of(fresh))
    try:
        with torch.no_grad():
            before = modules.logits_of(modules.call(fresh, ready))
            fuse(fresh, units)
            if is_close(modules.logits_of(modules.call(fresh, ready)), before):
                return fresh, pairs
    except (RuntimeError, TypeError, ValueError):
        pass  # the model mixes number formats, or `fuse` misread it
    fresh, pairs = _folded(model, inputs, units)
    return convert(fresh, dtype), pairs


def _folded(
    model: nn.Module, inputs: Any, units: Sequence[str]
) -> tuple[nn.Module, tuple[Pair, ...]]:
    fresh = _copied(model, {}).eval().requires_grad_(False)
    pairs = tuple(pairs_of(fresh, inputs, units))
    if not pairs:
        return fresh, pairs
    with torch.no_grad():
        before = modules.logits_of(modules.call(fresh, inputs))
        fold(fresh, pairs)
        after = modules.logits_of(modules.call(fresh, inputs))
    if is_close(after, before):
        return fresh, pairs
    return _copied(model, {}).eval().requires_grad_(False), ()


def convert(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Bring a copy, in place, to `dtype`, and to channels last where it handles images."""
    module = module.to(dtype=dtype)
    if any(isinstance(each, nn.Conv2d) for each in module.modules()):
        module = module.to(memory_format=torch.channels_last)
    return module


def is_close(found: Tensor, wanted: Tensor) -> bool:
    """Return whether two outputs agree up to the rounding of another order of sums."""
    if found.shape != wanted.shape:
        return False
    exact = wanted.dtype in (torch.float32, torch.float64)
    tolerance = (1e-3 if exact else 5e-2) * float(wanted.abs().max().nan_to_num(1.0)) + 1e-6
    return torch.allclose(found.double(), wanted.double(), atol=tolerance, equal_nan=True)


def _copied(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise ModelError(
            f"the model cannot be copied ({type(error).__name__}: {error}); remove what cannot "
            "be copied from it (open files, locks, generators) before the scan."
        ) from error


def cheap_dtype(model: nn.Module, precision: Precision) -> torch.dtype | None:
    """Return the number format in which `model` runs faster here; None: leave it as it is.

    A model on several devices, or with parameters that are not 32-bit floats, is left alone.
    """
    if precision == "keep":
        return None
    tensors = [*model.parameters(), *model.buffers()]
    floats = [tensor for tensor in tensors if tensor.is_floating_point()]
    if len({tensor.device for tensor in tensors}) > 1 or not floats:
        return None
    if any(tensor.dtype != torch.float32 for tensor in floats):
        return None
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        return None
    if precision == "bfloat16":
        return torch.bfloat16
    if precision == "float16":
        return torch.float16
    return torch.bfloat16 if _has_fast_bfloat16(modules.device_of(model)) else None


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def inputs_for(model: nn.Module, inputs: Any, device: torch.device | str) -> Any:
    """Return `inputs` on `device`, in the number format and memory layout of `model`."""
    first = next((p for p in model.parameters() if p.is_floating_point()), None)
    dtype = None if first is None else first.dtype
    images = any(
        isinstance(module, nn.Conv2d)
        and module.weight.ndim == 4
        and module.weight.is_contiguous(memory_format=torch.channels_last)
        for module in model.modules()
    )

    def fit(tensor: Tensor) -> Tensor:
        cheap = dtype in (torch.bfloat16, torch.float16) and tensor.dtype == torch.float32
        tensor = tensor.to(device, dtype if cheap else tensor.dtype)
        if cheap and images and tensor.ndim == 4:
            return tensor.contiguous(memory_format=torch.channels_last)
        return tensor

    return modules.tree_map(fit, inputs)
