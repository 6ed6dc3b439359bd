"""Static quantization of an OpenVINO IR by NNCF: post-training, one scale a channel of weights."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srinit import runtimes
from srinit.errors import ModelError, is_out_of_memory, require
from srinit.rng import isolated_rng
from srinit.serving import feeds_of

Batches = Iterable[tuple[Any, Any]]
WEIGHTED = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")


def quantize_openvino(
    source: Path,
    target: Path,
    singles: Batches,
    *,
    score: Callable[[nn.Module], float] | None = None,
    max_drop: float = 0.01,
) -> int:
    """Write an IR in int8, calibrated on examples; return how many there were.

    Args:
        source: The `.xml` in float32.
        target: The `.xml`.
        singles: `(inputs, targets)` of one example each.
        score: Accuracy-aware: layers go back to float32, those that cost most first, until the
            score that it gives for a network is at most `max_drop` below that of float32.
        max_drop: A fraction.

    Raises:
        MissingExtraError: openvino or nncf is not installed.
        ModelError: It cannot be quantized.
    """
    for module in ("openvino", "nncf"):
        require(module, "openvino", "for int8 by OpenVINO")
    try:
        with _quiet(), isolated_rng(0):
            openvino = runtimes.openvino()
            import nncf

            model = openvino.Core().read_model(source)
            names = [node.any_name for node in model.inputs]
            examples = [feeds_of(names, inputs) for inputs, _ in singles]
            how = {"subset_size": len(examples), "target_device": nncf.TargetDevice.CPU}
            data = nncf.Dataset(examples)
            if score is None:
                made = nncf.quantize(model, data, **how)
            else:
                made = nncf.quantize_with_accuracy_control(
                    model,
                    data,
                    nncf.Dataset([0]),  # the examples that `score` reads
                    lambda compiled, _: (score(_Compiled(compiled, names)), None),
                    max_drop=max_drop,
                    **how,
                )
            openvino.save_model(made, target, compress_to_fp16=False)
    except Exception as error:  # NNCF raises errors of every kind
        if is_out_of_memory(error):
            raise
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{source.name} cannot be quantized by NNCF: {text}") from error
    return len(examples)


def in_float_openvino(path: Path) -> tuple[str, ...]:
    """Return the layers that a quantized IR still computes in floating point."""
    model = runtimes.openvino().Core().read_model(path)
    left = []
    for node in model.get_ordered_ops():
        if node.get_type_name() not in WEIGHTED:
            continue
        kinds = {_origin(node.input_value(i).get_node()) for i in (0, 1)}
        if "float" in kinds:
            left.append(node.friendly_name)
    return tuple(left)


def _origin(node: Any) -> str:
    """Return what an input comes from: a constant of bytes, of floats, or other layers."""
    while node.get_type_name() in ("Convert", "Multiply", "Subtract", "Reshape", "Transpose"):
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return "other"
    return "bytes" if node.get_element_type().get_type_name() in ("i8", "u8") else "float"


class _Compiled(nn.Module):
    """A network that NNCF tries, called as others are."""

    def __init__(self, compiled: Any, names: list[str]) -> None:
        super().__init__()
        self._compiled, self._names = compiled, names

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Return the first output."""
        return torch.from_numpy(self._compiled(feeds_of(self._names, named or inputs))[0].copy())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep NNCF's log lines and bars from the terminal."""
    loggers = [logging.getLogger(name) for name in ("nncf", "torch.utils.cpp_extension")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
