"""Layers that add and clamp what they put out, and whose weights may differ by group.

On a CPU a third of a small network's time goes into walking through memory for additions and
ReLUs, on a GPU more; oneDNN and cuDNN do them on a convolution's result while that is in a
register. And a unit that is drawn again for every few examples runs once for the whole batch when
its layers know which examples meet which weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srinit.errors import is_out_of_memory
from srinit.records import record

# B examples, G groups of them, C channels in, O out, K what one output is a sum over

MOST_STACKED = 4  # examples of a group up to which a CPU is faster with one call for all groups


def has_onednn() -> bool:
    """Return whether torch was built with oneDNN, and may use it."""
    return torch._C._has_mkldnn and torch._C._get_mkldnn_enabled()


def fused_dtypes(device: torch.device | str = "cpu") -> tuple[torch.dtype, ...]:
    """Return the number formats in which a device's convolutions can add and clamp.

    Not float16: its range is soon left, and a clamp may hide that.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        known = torch.version.hip is None and torch.backends.cudnn.is_available()  # type: ignore[no-untyped-call]
        sound = known and torch.backends.cudnn.enabled and _cudnn_is_sound()
        return (torch.bfloat16,) if sound else ()
    if kind != "cpu" or not has_onednn():
        return ()
    has_half: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return (torch.float32, torch.bfloat16) if has_half else (torch.float32,)


@record
class Part:
    """Weights of one group of examples."""

    start: int
    stop: int
    weight: Tensor
    bias: Tensor | None


@record
class Stack:
    """Weights of several groups of examples, each of as many, for one call."""

    start: int
    stop: int
    groups: int
    weight: Tensor  # (G, O, C, ...)
    bias: Tensor | None  # (O,), the same for all groups, or (G, O)


class Layer(nn.Module):
    """A convolution or linear layer that may add and clamp, and have weights for each group.

    Args:
        inner: The layer; its weights are used while there are no `parts`.
    """

    def __init__(self, inner: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self._inner = [inner]  # not a child: it stays where it is in the model
        self.parts: Sequence[Part | Stack] = ()
        self.size = 0  # examples that the parts cover
        self._fused = True  # until cuDNN refuses

    @property
    def inner(self) -> nn.Conv2d | nn.Linear:
        """The layer."""
        return self._inner[0]

    def forward(self, x: Tensor, other: Tensor | None = None, relu: bool = False) -> Tensor:
        """Return the layer's output, plus `other`, clamped at zero where `relu`."""
        inner = self._inner[0]
        if not self.parts:
            return self._run(x, inner.weight, inner.bias, other, relu)
        each = x.shape[0] // self.size
        found = []
        for part in self.parts:
            start, count = part.start * each, (part.stop - part.start) * each
            some = None if other is None else other.narrow(0, start, count)
            rows = x.narrow(0, start, count)
            if isinstance(part, Stack):
                found.append(_stacked(inner, rows, part, some, relu))
            else:
                found.append(self._run(rows, part.weight, part.bias, some, relu))
        return found[0] if len(found) == 1 else torch.cat(found)

    def _run(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None, relu: bool
    ) -> Tensor:
        inner = self._inner[0]
        if isinstance(inner, nn.Linear):
            return _finish(F.linear(x, weight, bias), other, relu)
        fits = x.ndim == 4 and x.dtype in fused_dtypes(x.device)
        if fits and (relu or other is not None):
            if x.device.type == "cpu":
                return _by_onednn(inner, x, weight, bias, other, relu)
            if self._fused and relu and inner.groups == 1:
                try:
                    return _by_cudnn(inner, x, weight, bias, other)
                except RuntimeError as error:
                    if is_out_of_memory(error):
                        raise
                    self._fused = False  # no kernel of this kind for these shapes
        return _finish(_plain(inner, x, weight, bias), other, relu)


def can_stack(inner: nn.Module, per_group: int) -> bool:
    """Return whether a layer can meet groups of that many examples in one call, and gains."""
    if type(inner) is nn.Linear:
        return inner.weight.device.type == "cuda"
    if type(inner) is not nn.Conv2d or not is_plain(inner):
        return False
    weight = inner.weight
    if weight.device.type == "cuda":
        return True
    half = weight.dtype is torch.bfloat16 and weight.dtype in fused_dtypes()
    return half and weight.device.type == "cpu" and per_group <= MOST_STACKED


def is_plain(conv: nn.Conv2d) -> bool:
    """Return whether a convolution pads with zeros, by numbers, and carries no hooks."""
    hooks = conv._forward_hooks or conv._forward_pre_hooks
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str) and not hooks


def room_for(weight: Tensor, count: int) -> Tensor:
    """Return room for `count` tensors like this one, each in its memory layout."""
    shape, strides = weight.shape, weight.stride()
    order = sorted(range(weight.ndim), key=lambda dim: -strides[dim])
    room = torch.empty(
        count, *(shape[dim] for dim in order), dtype=weight.dtype, device=weight.device
    )
    back = [0, *(1 + order.index(dim) for dim in range(weight.ndim))]
    return room.permute(back)


def _stacked(inner: Any, x: Tensor, stack: Stack, other: Tensor | None, relu: bool) -> Tensor:
    if x.device.type == "cpu" and type(inner) is nn.Conv2d and x.dtype is torch.bfloat16:
        after = "relu" if relu and other is None else "none"
        found = _by_groups(inner, x, stack, after)
        return found if other is None else _finish(found, other, relu)
    if type(inner) is nn.Conv2d and inner.groups > 1:
        return _finish(_by_groups(inner, x, stack, None), other, relu)
    return _finish(by_products(inner, x, stack), other, relu)


def _by_groups(inner: nn.Conv2d, x: Tensor, stack: Stack, after: str | None) -> Tensor:
    """Return the output of a convolution whose groups are groups of examples and of channels.

    Args:
        inner: The layer.
        x: Examples (B, C, H, W).
        stack: The groups.
        after: What oneDNN does afterwards; None: PyTorch's own convolution.
    """
    wide = _side_by_side(x, stack.groups)
    weight = stack.weight.flatten(0, 1)
    bias = stack.bias
    if bias is not None:
        bias = bias.repeat(stack.groups) if bias.ndim == 1 else bias.flatten()
    groups = stack.groups * inner.groups
    if after is None:
        found = F.conv2d(wide, weight, bias, inner.stride, inner.padding, inner.dilation, groups)
    else:
        geometry = inner.padding, inner.stride, inner.dilation, groups
        found = torch.ops.mkldnn._convolution_pointwise(
            wide, weight, bias, *geometry, after, [], ""
        )
    return _one_below_other(found, stack.groups)


def _side_by_side(x: Tensor, groups: int) -> Tensor:
    """Return examples (groups * n, C, H, W) as (n, groups * C, H, W), channels last."""
    size, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(groups, size // groups, height, width, channels)
    return x.permute(1, 2, 3, 0, 4).flatten(3).permute(0, 3, 1, 2)


def _one_below_other(x: Tensor, groups: int) -> Tensor:
    """Return (n, groups * C, H, W) as examples (groups * n, C, H, W), channels last."""
    size, channels, height, width = x.shape
    x = x.permute(0, 2, 3, 1).reshape(size, height, width, groups, channels // groups)
    return x.permute(3, 0, 1, 2, 4).flatten(0, 1).permute(0, 3, 1, 2)


def by_products(inner: nn.Conv2d | nn.Linear, x: Tensor, stack: Stack) -> Tensor:
    """Return a layer's output by one matrix product for each group, in one call.

    cuDNN's grouped convolutions take thirty times as long at 64 channels.

    Args:
        inner: A linear layer, or a convolution of one group of channels.
        x: Examples (B, ..., C) of a linear layer, (B, C, H, W) of a convolution.
        stack: Weights of G groups of B / G examples.
    """
    if isinstance(inner, nn.Linear):
        columns = x
        weight_GOK = stack.weight
    else:
        columns = columns_of(inner, x)
        weight_GOK = stack.weight.permute(0, 1, 3, 4, 2).flatten(2)
    rows_GRK = columns.reshape(stack.groups, -1, columns.shape[-1])
    found = torch.bmm(rows_GRK, weight_GOK.transpose(1, 2))
    if stack.bias is not None:
        found += stack.bias if stack.bias.ndim == 1 else stack.bias[:, None]
    found = found.view(*columns.shape[:-1], found.shape[-1])
    return found if isinstance(inner, nn.Linear) else found.permute(0, 3, 1, 2)


def columns_of(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Return what each output of a convolution is a sum over: (B, H', W', K), channels last in K.

    The im2col of https://inria.hal.science/inria-00112631, copied in words of up to 8 bytes.
    """
    (high, wide), (step_h, step_w) = conv.kernel_size, conv.stride
    assert not isinstance(conv.padding, str)
    (pad_h, pad_w), (far_h, far_w) = conv.padding, conv.dilation
    x = x.permute(0, 2, 3, 1)
    if pad_h or pad_w:
        x = F.pad(x, (0, 0, pad_w, pad_w, pad_h, pad_h))
    shape, kind, flat = x.shape, x.dtype, x.flatten().contiguous()
    if shape[-1] * x.element_size() % 8 == 0 and flat.storage_offset() * x.element_size() % 8 == 0:
        flat = flat.view(torch.int64)
    x = flat.view(*shape[:-1], -1)
    x = x.unfold(1, (high - 1) * far_h + 1, step_h).unfold(2, (wide - 1) * far_w + 1, step_w)
    x = x[..., ::far_h, ::far_w].permute(0, 1, 2, 4, 5, 3)
    return x.flatten(3).view(kind)


def _by_onednn(
    inner: nn.Conv2d,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    other: Tensor | None,
    relu: bool,
) -> Tensor:
    geometry = inner.padding, inner.stride, inner.dilation, inner.groups
    if other is None:
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, bias, *geometry, "relu", [], ""
        )
        return found
    half = x.dtype is torch.bfloat16  # in 32 bits adding afterwards, in place, is faster
    alike = other.dtype is x.dtype and other.shape == _output_shape(inner, x, weight)
    if not half or not alike or inner.groups > 1:  # grouped ones add, but do not clamp then
        return _finish(_plain(inner, x, weight, bias), other, relu)
    summed: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
        x, other, weight, bias, *geometry, "add", 1.0, "relu" if relu else None, [], None
    )
    return summed


def _by_cudnn(
    inner: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None
) -> Tensor:
    geometry = inner.stride, inner.padding, inner.dilation, inner.groups
    if other is None:
        return torch.cudnn_convolution_relu(x, weight, bias, *geometry)  # type: ignore[arg-type]
    if other.dtype is not x.dtype or other.shape != _output_shape(inner, x, weight):
        return _finish(_plain(inner, x, weight, bias), other, True)
    return torch.cudnn_convolution_add_relu(x, weight, other, 1.0, bias, *geometry)  # type: ignore[arg-type]


@cache
def _cudnn_is_sound() -> bool:
    """Return whether a fused convolution is one here, with rubbish in the memory that it is given.

    PyTorch hands its own empty output in as what is added, times zero.
    """

    def values(*shape: int) -> Tensor:
        found = torch.linspace(-1, 1, math.prod(shape), device="cuda", dtype=torch.bfloat16)
        return found.view(shape).contiguous(memory_format=torch.channels_last)

    try:
        x, weight = values(8, 16, 8, 8), values(16, 16, 3, 3)
        bias = torch.zeros(16, device="cuda", dtype=torch.bfloat16)
        wanted = torch.relu(F.conv2d(x, weight, bias, padding=1))
        rubbish = torch.full_like(wanted, torch.nan)
        del rubbish
        found = torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (1, 1), (1, 1), 1)
        return torch.allclose(found.float(), wanted.float(), atol=0.5, rtol=0.05)
    except RuntimeError:
        return False


def _output_shape(conv: nn.Conv2d, x: Tensor, weight: Tensor) -> tuple[int, ...]:
    assert not isinstance(conv.padding, str)
    geometry = zip(
        x.shape[2:], weight.shape[2:], conv.padding, conv.dilation, conv.stride, strict=True
    )
    spatial = [
        (length + 2 * pad - far * (kernel - 1) - 1) // step + 1
        for length, kernel, pad, far, step in geometry
    ]
    return (x.shape[0], weight.shape[0], *spatial)


def _plain(inner: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(x, weight, bias, inner.stride, inner.padding, inner.dilation, inner.groups)


def _finish(x: Tensor, other: Tensor | None, relu: bool) -> Tensor:
    """Return `x`, which is nobody else's, with `other` added, clamped at zero where `relu`."""
    if other is not None:
        alike = other.shape == x.shape and other.dtype == x.dtype
        x = x.add_(other) if alike else x + other
    return torch.relu_(x) if relu else x
