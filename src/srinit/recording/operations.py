"""Kinds of recorded operations, by their short names, and what they do to a stream."""

from __future__ import annotations

from functools import cache

from srinit.recording.trace import Op, Value

VIEWS = frozenset(
    [
        "view",
        "_unsafe_view",
        "reshape",
        "permute",
        "transpose",
        "t",
        "expand",
        "clone",
        "contiguous",
        "alias",
        "detach",
        "squeeze",
        "unsqueeze",
        "slice",
        "select",
        "split",
        "split_with_sizes",
        "chunk",
        "narrow",
        "_to_copy",
        "unbind",
        "flatten",
        "unflatten",
        "lift_fresh",
        "copy",
        "roll",
        "pixel_shuffle",
        "channel_shuffle",
        "native_channel_shuffle",
        "constant_pad_nd",
        "as_strided",
        "movedim",
        "swapaxes",
        "native_dropout",
        "dropout",
        "index_select",
        "index",
    ]
)
SHAPE_KEPT = frozenset(
    [
        "relu",
        "gelu",
        "silu",
        "hardswish",
        "hardtanh",
        "elu",
        "leaky_relu",
        "mish",
        "sigmoid",
        "tanh",
        "hardsigmoid",
        "celu",
        "selu",
        "relu6",
        "_prelu_kernel",
        "prelu",
        "neg",
        "clamp",
        "abs",
        "nan_to_num",
    ]
)
NORMS = frozenset(
    [
        "native_batch_norm",
        "_native_batch_norm_legit",
        "_native_batch_norm_legit_no_training",
        "cudnn_batch_norm",
        "native_layer_norm",
        "native_group_norm",
        "_fused_rms_norm",
        "rms_norm",
        "batch_norm",
        "_batch_norm_no_update",
        "miopen_batch_norm",
    ]
)
SCALES = frozenset(["mul", "div"])
ADDITIONS = frozenset(["add", "sub", "rsub", "addcmul"])
JOINS = frozenset(["cat", "stack"])
MERGING = ADDITIONS | JOINS | {"lerp", "where"}
# What a root-mean-square norm written out in Python consists of, besides the above.
REDUCTIONS = frozenset(["pow", "mean", "rsqrt", "sum", "var", "sqrt", "var_mean", "square"])


def short(op: Op) -> str:
    """Return "add" for "aten.add_.Tensor".

    Example:
        >>> short(Op("aten.add_.Tensor", (), (), (), 0))
        'add'
    """
    return _short(op.name)


@cache
def _short(name: str) -> str:
    return name.split(".")[1].rstrip("_") if "." in name else name


def stays(op: Op, value: int) -> bool:
    """Tell whether an addition without its other side is this value: not `-x`, not `2 * x`.

    Example:
        >>> stays(Op("aten.add.Tensor", (1, 2), (3,), (), 0), 2)
        True
    """
    if op.again is None or len(op.inputs) < 2:
        return True
    first = op.again.args[0] == Value(value)
    name = short(op)
    if name == "rsub":
        return not first and op.again.kwargs.get("alpha", 1) == 1
    return first or (name == "add" and op.again.kwargs.get("alpha", 1) == 1)
