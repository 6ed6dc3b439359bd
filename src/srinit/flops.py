"""How operations are counted: torch's rules, those it lacks, and what nobody counts.

One multiply-add counts 2. Products are counted; norms, activations, additions, look-ups, pooling
and moves of data count nothing, with parameters or without. Anything else that has no rule is
named, so that a count is never silently too small.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Counter = Callable[..., int]
LIGHT = re.compile(
    r"(_fused|_native)?_?(native_)?(cudnn_|miopen_)?(batch|layer|group|rms|instance)_norm\w*"
    r"|_?native_batch_norm\w*|_batch_norm\w*|\w*norm_except_dim\w*|_weight_norm\w*|renorm"
    r"|\w*softmax\w*|logsumexp|log_sigmoid\w*|glu|prelu|_prelu_kernel|rrelu\w*|\w*dropout\w*"
    r"|embedding|\w*nll_loss\w*|\w*pool\dd?\w*|\w*upsample\w*|\w*pad(\dd|_nd)?|_pad_\w+|repeat\w*"
    r"|_?(mean|sum|prod|amax|amin|max|min|aminmax|argmax|argmin|var|std|var_mean|std_mean|any|all)"
    r"|\w*vector_norm|norm|cum(sum|prod|max|min)|_?cumsum\w*|logcumsumexp|median|nanmedian|mode"
    r"|cat|stack|_?index\w*|_unsafe_index\w*|gather|scatter\w*|masked_\w+|take\w*|where|put|unfold\w*"
    r"|topk|sort|argsort|kthvalue|nonzero\w*|unique\w*|_unique\w*|count_nonzero|searchsorted|bucketize"
    r"|bincount|histc|one_hot|isin|roll|flip|rot90|tri[lu]\w*|diag\w*|clone|copy|_?to_copy|_to_\w+"
    r"|fill\w*|zero|lift\w*|detach|alias|resize\w*|set|contiguous|_unsafe_view|_?reshape\w*|view\w*"
    r"|unsafe_\w+|split\w*|unbind|chunk|im2col|col2im|pixel_\w+|\w*channel_shuffle|meshgrid"
    r"|equal|item|_local_scalar_dense|is_\w+|size|stride|numel|sym_\w+|_assert\w*|_nested\w*|device"
    r"|rand\w*|normal\w*|uniform|bernoulli|multinomial|exponential|_sample_dirichlet|poisson|complex"
    r"|_pack_padded_sequence\w*|_pad_packed_sequence|_thnn_fused_(lstm|gru)_cell|_cudnn_rnn_flatten_weight|quantize_per_\w+|dequantize|q_\w+"
    r"|empty\w*|new_\w+|zeros\w*|ones\w*|full\w*|arange\w*|linspace|eye|scalar_tensor|tensor\w*"
    r"|transpose|hardswish|hardtanh|as_strided|t|permute|swap\w*|movedim|expand\w*"
    r"|_conj\w*|real|imag|_neg_view|_values|_indices|values|indices|coalesce|record_stream|squeeze\w*"
)


def counter_of(func: object) -> Counter | None:
    """Return the function that counts the FLOPs of an operation, or None."""
    from torch.utils.flop_counter import flop_registry  # here: it imports triton

    own = OWN.get(_name(func))
    return own if own is not None else flop_registry.get(getattr(func, "overloadpacket", func))


def uncounted(func: object, args: Iterable[Any]) -> str:
    """Return the name of an operation that does arithmetic which is not counted, or "".

    Example:
        >>> uncounted(torch.ops.aten._fft_r2c.default, (torch.ones(4),))
        'aten::_fft_r2c'
        >>> uncounted(torch.ops.aten.add.Tensor, (torch.ones(4),))
        ''
    """
    if counter_of(func) is not None:
        return ""
    name = _name(func)
    space, _, plain = name.partition("::")
    if any(_is_light(one) for one in (func, _out_of_place(func))):
        return ""
    if space in ("aten", "prim", "prims") and LIGHT.fullmatch(plain.rstrip("_")):
        return ""
    if space == "profiler" or (space == "prim" and plain == "device"):
        return ""
    touches = any(isinstance(value, Tensor | list | tuple | torch.ScriptObject) for value in args)
    return name if touches else ""


def _is_light(func: object) -> bool:
    return torch.Tag.pointwise in getattr(func, "tags", ()) or getattr(func, "is_view", False)


def _out_of_place(func: object) -> object:
    """Return `aten.relu.default` for `aten.relu_.default`, which carries no tags."""
    space, _, plain = _name(func).partition("::")
    packet = getattr(getattr(torch.ops, space, None), plain.rstrip("_"), None) if space else None
    return getattr(packet, getattr(func, "_overloadname", ""), None)


class Uncounted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes, while it is on, the operations that do arithmetic which is not counted."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: dict[str, int] = {}  # how often each ran

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> object:
        kwargs = kwargs or {}
        name = uncounted(func, [*args, *kwargs.values()])
        if name:
            self.names[name] = self.names.get(name, 0) + 1
        return func(*args, **kwargs)


def custom_mapping() -> dict[Any, Counter]:
    """Return the rules that torch lacks, as `FlopCounterMode` takes them."""
    found: dict[Any, Counter] = {}
    for name, counter in OWN.items():
        space, _, plain = name.partition("::")
        packet = getattr(getattr(torch.ops, space), plain, None)
        if packet is not None:
            found[packet] = counter
    return found


def _name(func: object) -> str:
    """Return "aten::add" for `aten.add.Tensor`; the name of a higher-order operation as it is."""
    schema = getattr(func, "_schema", None)
    return str(schema.name) if schema is not None else str(func)


def _raw(counter: Counter) -> Counter:
    counter._get_raw = True  # type: ignore[attr-defined]  # given tensors, not shapes
    return counter


@_raw
def _rnn_layer(x: Tensor, w_in: Tensor, w_hidden: Tensor, *args: object, **_: object) -> int:
    """One layer in one direction: every step multiplies by both matrices.

    An LSTM has four gates of (input + hidden) x hidden, see the equations of
    https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html.
    """
    sizes = next((a for a in args if isinstance(a, list | tuple)), ())
    return 2 * _steps(x, sizes) * (w_in.numel() + w_hidden.numel())


@_raw
def _rnn(x: Tensor, weights: Sequence[Tensor], *args: object, **_: object) -> int:
    """All layers and directions: every step multiplies by every matrix once (cuDNN, MIOpen)."""
    sizes = next((a for a in args if isinstance(a, list | tuple)), ())
    return 2 * _steps(x, sizes) * _matrices(weights)


@_raw
def _rnn_whole(x: Tensor, second: object, third: Any, *args: Any, **_: object) -> int:
    """`aten::lstm` and its like; packed data come with their sizes in the second place."""
    packed = isinstance(second, Tensor) and isinstance(args[0], list | tuple)
    weights = args[0] if packed else third
    return 2 * _steps(x, ()) * _matrices(weights)


def _matrices(weights: Iterable[Tensor]) -> int:
    """Return how many entries the matrices among weights and biases have."""
    return sum(int(weight.numel()) for weight in weights if weight.ndim == 2)


def _steps(x: Tensor, sizes: Iterable[int]) -> int:
    """Return how many vectors enter: steps times batch, or the lengths of packed sequences."""
    return sum(sizes) or prod(x.shape[:-1])


@_raw
def _mv(matrix: Tensor, *_: object, **__: object) -> int:
    """A matrix times a vector: one multiply-add for each of its entries."""
    return 2 * matrix.numel()


@_raw
def _addmv(_added: Tensor, matrix: Tensor, *_: object, **__: object) -> int:
    """The same, with something added."""
    return 2 * matrix.numel()


@_raw
def _addbmm(_added: Tensor, one: Tensor, other: Tensor, **_: object) -> int:
    """A sum of products of matrices."""
    return 2 * one.numel() * other.shape[-1]


@_raw
def _int_mm(one: Tensor, other: Tensor, *_: object, **__: object) -> int:
    """A product of matrices of whole numbers."""
    return 2 * one.numel() * other.shape[-1]


@_raw
def _packed_mm(x: Tensor, weight: Tensor, *_: object, **__: object) -> int:
    """A product with a weight of 8 bits, (out, in)."""
    return 2 * x.numel() * weight.shape[0]


@_raw
def _trilinear(
    i1: Tensor, i2: Tensor, i3: Tensor, expand1: Sequence[int], expand2: Sequence[int],
    expand3: Sequence[int], sums: Sequence[int], *_: object, **__: object,
) -> int:  # fmt: skip
    """`nn.Bilinear`, x' A y: as two products, x' A and then that with y, as einsum does it."""
    shapes = []
    for tensor, dims in ((i1, expand1), (i2, expand2), (i3, expand3)):
        shape = list(tensor.shape)
        for dim in sorted(dims):
            shape.insert(dim, 1)
        shapes.append(shape)
    sizes = [max(column) for column in zip(*shapes, strict=True)]
    inner = sizes[sums[0]] if len(sums) else 1
    return int(2 * prod(sizes) + 2 * prod(sizes) // inner)


@_raw
def _cdist(one: Tensor, other: Tensor, *_: object, **__: object) -> int:
    """Distances of all pairs: the product of matrices that they expand to."""
    return 2 * one.numel() * other.shape[-2]


@_raw
def _quantized_linear(x: Tensor, *_: object, out_val: Tensor, **__: object) -> int:
    """A linear map with packed 8-bit weights."""
    return 2 * out_val.numel() * x.shape[-1]


@_raw
def _deformable(x: Tensor, weight: Tensor, *_: object, out_val: Tensor, **__: object) -> int:
    """Torchvision's deformable convolution, the interpolation of its samples left out."""
    return 2 * out_val.numel() * weight[0].numel()


OWN: dict[str, Counter] = {
    "aten::mkldnn_rnn_layer": _rnn_layer,
    **dict.fromkeys(["aten::_cudnn_rnn", "aten::miopen_rnn"], _rnn),
    **dict.fromkeys(["aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"], _rnn_whole),
    **dict.fromkeys(["aten::mv", "aten::dot", "aten::vdot"], _mv),
    "aten::addmv": _addmv,
    "aten::addbmm": _addbmm,
    "aten::_int_mm": _int_mm,
    "aten::_weight_int8pack_mm": _packed_mm,
    "aten::_trilinear": _trilinear,
    **dict.fromkeys(["aten::_cdist_forward", "aten::_euclidean_dist"], _cdist),
    **dict.fromkeys(
        [
            f"quantized::linear{relu}{kind}"
            for relu in ("", "_relu")
            for kind in ("", "_dynamic", "_dynamic_fp16")
        ],
        _quantized_linear,
    ),
    "torchvision::deform_conv2d": _deformable,
}
