"""The scan's own copy of a model: the caller's is never touched.

The copy has its own module objects and buffers. Its parameters use the memory of the caller's,
which costs none and moves nothing, unless cheaper arithmetic pays: then they are its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from srinit import modules
from srinit.copying import detached_copy, detached_copy_again
from srinit.engine.folding import Pair, fold, pairs_of
from srinit.engine.fusing import fuse
from srinit.engine.layers import fused_dtypes, has_onednn
from srinit.errors import ModelError

Precision = Literal["auto", "keep", "bfloat16", "float16"]


def own_copy(model: nn.Module, inputs: object) -> nn.Module:
    """Return a copy of a caller's model, compared with it, whose parameters use its memory.

    Its buffers are its own. Further copies are made of this one.

    Raises:
        ModelError: The model cannot be copied; see `srinit.copying.copied`.
    """
    return detached_copy(model, inputs, shared=lambda _: True)[0].eval()


def shared_copy(model: nn.Module) -> nn.Module:
    """Return a copy of the scan's own copy, in evaluation mode, on the same memory."""
    return detached_copy_again(model, shared=lambda _: True)[0].eval()


def cheaper_copy(
    model: nn.Module, dtype: torch.dtype, inputs: object, units: Sequence[str]
) -> tuple[nn.Module, tuple[Pair, ...]]:
    """Return a copy in `dtype`, cheaper to run, and what was folded in it.

    Batch normalization is folded into the layer before it, and additions and ReLUs are done by
    the convolution before them, where a forward on `inputs` shows the same output;
    images are laid out with channels last. Tensors that stay as they are stay the caller's.
    """
    fresh, pairs = _folded(model, dtype, inputs, units)
    fresh = convert(fresh, dtype)
    device = modules.device_of(fresh)
    if dtype not in fused_dtypes(device):
        return fresh, pairs
    ready = inputs_for(fresh, inputs, device)
    try:
        with torch.no_grad():
            before = modules.logits_of(modules.call(fresh, ready))
            fuse(fresh, units)
            if is_close(modules.logits_of(modules.call(fresh, ready)), before):
                return fresh, pairs
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ModelError):
        pass  # the model mixes number formats, or `fuse` misread it
    fresh, pairs = _folded(model, dtype, inputs, units)
    return convert(fresh, dtype), pairs


def _folded(
    model: nn.Module, dtype: torch.dtype, inputs: Any, units: Sequence[str]
) -> tuple[nn.Module, tuple[Pair, ...]]:
    fresh = _own_copy(model, dtype)
    pairs = tuple(pairs_of(fresh, inputs, units))
    if not pairs:
        return fresh, pairs
    with torch.no_grad():
        before = modules.logits_of(modules.call(fresh, inputs))
        fold(fresh, pairs)
        after = modules.logits_of(modules.call(fresh, inputs))
    if is_close(after, before):
        return fresh, pairs
    return _own_copy(model, dtype), ()


def faster_copy(model: nn.Module, inputs: object) -> nn.Module:
    """Return a copy that answers alike in the same number format, and sooner where that is known.

    On a CPU: folded, fused and with channels last, where a forward on `inputs` agrees.
    """
    if torch.float32 not in cheap_dtypes(model, "auto"):
        return shared_copy(model)
    ready = modules.to_device(inputs, modules.device_of(model))
    return cheaper_copy(model, torch.float32, ready, ())[0]


def lighter_copy(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy in `dtype`, images with channels last, whose normalization can be estimated.

    Nothing is folded, and batch normalization keeps its number format: its statistics are sums.
    """
    fresh = _own_copy(model, dtype)
    for module in fresh.modules():
        if isinstance(module, _BatchNorm):
            continue
        for tensors in (module._parameters, module._buffers):
            for tensor in tensors.values():
                if tensor is not None and tensor.is_floating_point():
                    tensor.data = tensor.data.to(dtype)
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
    return fresh


def _own_copy(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy that `convert` may bring to `dtype`: what that changes is the copy's own."""
    changed = {
        id(tensor)
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
        for tensor in module.parameters()
    }

    def shared(tensor: Tensor) -> bool:
        return id(tensor) not in changed and tensor.dtype == dtype

    fresh, pairs = detached_copy_again(model, shared=shared)
    for theirs, ours in pairs:
        if not shared(theirs):
            ours.requires_grad_(False)
    return fresh.eval()


def convert(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Bring a copy, in place, to `dtype`, and its convolutions of images to channels last."""
    module = module.to(dtype=dtype)
    for each in module.modules():
        if isinstance(each, nn.Conv2d):
            each.to(memory_format=torch.channels_last)
    return module


def is_close(found: Tensor, wanted: Tensor) -> bool:
    """Return whether two outputs agree up to the rounding of another order of sums."""
    if found.shape != wanted.shape:
        return False
    exact = wanted.dtype in (torch.float32, torch.float64)
    tolerance = (1e-3 if exact else 5e-2) * float(wanted.abs().max().nan_to_num(1.0)) + 1e-6
    return torch.allclose(found.double(), wanted.double(), atol=tolerance, equal_nan=True)


def cheap_dtypes(model: nn.Module, precision: Precision) -> tuple[torch.dtype, ...]:
    """Return the number formats in which a copy of `model` runs faster here, the fastest first.

    A model on several devices, or with parameters that are not 32-bit floats, is left alone. On a
    CPU 32 bits are among them: the same arithmetic, folded, fused and with channels last.
    """
    if precision == "keep":
        return ()
    tensors = [*model.parameters(), *model.buffers()]
    floats = [tensor for tensor in tensors if tensor.is_floating_point()]
    if len({tensor.device for tensor in tensors}) > 1 or not floats:
        return ()
    if any(tensor.dtype != torch.float32 for tensor in floats):
        return ()
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        return ()
    if precision == "bfloat16":
        return (torch.bfloat16,)
    if precision == "float16":
        return (torch.float16,)
    device = modules.device_of(model)
    full = (torch.float32,) if device.type == "cpu" and has_onednn() else ()
    return (torch.bfloat16, *full) if has_fast_bfloat16(device) else full


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies in bfloat16 faster than in 32 bits."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def inputs_for(model: nn.Module, inputs: object, device: torch.device | str) -> Any:
    """Return `inputs` on `device`, in the number format and memory layout of `model`."""
    first = next((p for p in model.parameters() if p.is_floating_point()), None)
    dtype = None if first is None else first.dtype
    images = any(
        isinstance(module, nn.Conv2d)
        and module.weight.ndim == 4
        and module.weight.is_contiguous(memory_format=torch.channels_last)
        and not module.weight.is_contiguous()
        for module in model.modules()
    )

    def fit(tensor: Tensor) -> Tensor:
        cheap = dtype in (torch.bfloat16, torch.float16) and tensor.dtype == torch.float32
        tensor = tensor.to(device, dtype if cheap else tensor.dtype)
        if images and tensor.ndim == 4 and tensor.dtype == dtype:
            return tensor.contiguous(memory_format=torch.channels_last)
        return tensor

    return modules.tree_map(fit, inputs)
