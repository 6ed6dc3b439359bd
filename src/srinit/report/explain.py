"""What a network looks at in one image: Guided Backpropagation and Grad-CAM.

Grad-CAM is Captum's. Its Guided Backpropagation sees `nn.ReLU` modules only and silently gives
plain gradients for networks that call `F.relu`; here every ReLU is guided, however it is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from srinit import modules

# B batch, C channels, H W space, N tokens

TRIED = 12  # layers that are asked for a map, last first


class _GuidedReLU(torch.autograd.Function):
    """ReLU that passes back only positive gradients, to positive outputs."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, top: float) -> Tensor:
        out = inputs.clamp(0, top)
        ctx.save_for_backward((inputs > 0) & (inputs < top))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (open_,) = ctx.saved_tensors
        return gradients[0].clamp(min=0) * open_, None


class _Guided(TorchFunctionMode):
    """Takes the place of every ReLU and ReLU6 while it is active, and counts them."""

    RELU = (F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)
    CLIPPED = (F.relu6, F.hardtanh)

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, func: Any, types: object, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        kwargs = kwargs or {}
        if func in self.RELU:
            self.count += 1
            return _GuidedReLU.apply(args[0], float("inf"))
        if func in self.CLIPPED and (top := _clip(func, args, kwargs)) is not None:
            self.count += 1
            return _GuidedReLU.apply(args[0], top)
        return func(*args, **kwargs)


def _clip(func: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    """Return the upper end of a clipped ReLU; None where it does not start at zero."""
    if func is F.relu6:
        return 6.0
    low = args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)
    high = args[2] if len(args) > 2 else kwargs.get("max_val", 1.0)
    return float(high) if low == 0 else None


def guided_gradient(model: nn.Module, image: Tensor, target: int) -> tuple[Tensor, int]:
    """Return the guided gradient of a class at one image, and how many ReLUs were guided.

    Without any ReLU it is the plain gradient. Source: Springenberg et al., Striving for
    Simplicity, https://arxiv.org/abs/1412.6806.

    Args:
        model: A classifier; its parameters get no gradients.
        image: One image, shape (1, C, H, W).
        target: Class index.
    """
    inputs = image.detach().clone().requires_grad_(True)
    with modules.untouched(model), torch.enable_grad(), _Guided() as guided:
        logits = modules.logits_of(modules.call(model, inputs))
        score = logits[0, target]
    (gradient,) = torch.autograd.grad(score, inputs)
    return gradient[0], guided.count


def grad_cam(model: nn.Module, image: Tensor, target: int, *, scale: int = 1) -> Tensor | None:
    """Return the class activation map over one image, shape (scale H, scale W), not negative.

    Taken at the last module with a spatial output; for token models, of activation times
    gradient on the square of patch tokens. None where there is neither. Source: Selvaraju et
    al., Grad-CAM, https://arxiv.org/abs/1610.02391.

    Args:
        model: A classifier.
        image: One image, shape (1, C, H, W).
        target: Class index.
        scale: Whole factor of enlargement.
    """
    size = (scale * image.shape[-2], scale * image.shape[-1])
    spatial, tokens = _layers(model, image)
    with modules.untouched(model), torch.enable_grad():
        if spatial is not None:
            return _resized(_cam(model, spatial, image, target), size)
        for layer in tokens[:TRIED]:
            found = _token_map(model, layer, image, target)
            if found is not None and bool(found.any()):
                return _resized(found, size)
    return None


def is_token_model(model: nn.Module, image: Tensor) -> bool:
    """Return whether `grad_cam` takes its map from tokens, since the network works on them."""
    return bool(_layers(model, image)[1])


def _cam(model: nn.Module, layer: nn.Module, image: Tensor, target: int) -> Tensor:
    from captum.attr import LayerGradCam

    method = LayerGradCam(_forward(model), layer)
    found = method.attribute(image, target=target, relu_attributions=True)
    cam: Tensor = found.detach()
    return cam


def _resized(map_: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a map of shape (1, 1, h, w) as (H, W), smoothly."""
    return F.interpolate(map_, size, mode="bilinear", align_corners=False)[0, 0].clamp(min=0)


def _token_map(model: nn.Module, layer: nn.Module, image: Tensor, target: int) -> Tensor | None:
    from captum.attr import LayerGradientXActivation

    method = LayerGradientXActivation(_forward(model), layer)
    found = method.attribute(image, target=target)
    found_BNC = next(modules.tensors(found)).detach()
    weights_N = found_BNC[0].sum(1)
    side = square(len(weights_N))
    if side is None:
        return None
    return weights_N[-side * side :].view(1, 1, side, side).clamp(min=0)


def _forward(model: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda inputs: modules.logits_of(modules.call(model, inputs))


def _layers(model: nn.Module, image: Tensor) -> tuple[nn.Module | None, list[nn.Module]]:
    """Return the last module with a spatial output, and those with tokens (1, N, C), last first.

    Spatial is (1, C, H, W) with H and W above 1.
    """
    spatial: list[nn.Module] = []
    tokens: list[nn.Module] = []

    def note(module: nn.Module, _args: object, output: object) -> None:
        if not isinstance(output, Tensor) or output.shape[:1] != (1,):
            return
        if output.ndim == 4 and min(output.shape[2:]) > 1:
            spatial.append(module)
        if output.ndim == 3 and square(output.shape[1]) is not None:
            tokens.append(module)

    inner = [module for module in model.modules() if module is not model]
    handles = [module.register_forward_hook(note) for module in inner]
    try:
        with modules.untouched(model), torch.no_grad():
            modules.call(model, image)
    finally:
        for handle in handles:
            handle.remove()
    if tokens:  # a patch embedding is spatial, and is not where a token model decides
        return None, list(dict.fromkeys(reversed(tokens)))
    return (spatial[-1] if spatial else None), []


def square(count: int) -> int | None:
    """Return the side of the square of patch tokens, with up to two tokens beside them."""
    for extra in (0, 1, 2):
        side = math.isqrt(max(count - extra, 0))
        if side > 1 and side * side == count - extra:
            return side
    return None
