"""Static quantization of an ONNX file by onnxruntime: QDQ, one scale a channel of weights."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from srinit.errors import ModelError, is_out_of_memory, require
from srinit.runtimes import ModelFile
from srinit.serving import feeds_of

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def helps_int8(instructions: Sequence[str]) -> bool:
    """Return whether a processor multiplies and sums bytes in one step.

    Example:
        >>> helps_int8(["avx2"]), helps_int8(["avx2", "avx_vnni"])
        (False, True)
    """
    return any(name in instructions for name in DOT_PRODUCTS)


def needs_reduced_range(instructions: Sequence[str]) -> bool:
    """Return whether weights get 7 bits: on x86 that does not sum bytes in one step."""
    return "avx2" in instructions and not helps_int8(instructions)


def quantize(
    source: Path, target: Path, batches: Iterable[tuple[Any, Any]], *, reduced_range: bool = False
) -> int:
    """Write an ONNX file in int8, calibrated on examples; return how many there were.

    Convolutions and what follows them by arithmetic alone are joined before. Activations get
    the range that the examples show, weights one scale for each channel.

    Args:
        source: ONNX in float32.
        target: The file.
        batches: `(inputs, targets)`, as the network takes them.
        reduced_range: Weights of 7 bits: without VNNI, sums of 8-bit products clip on x86.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
        ModelError: It cannot be quantized.
    """
    for module in ("onnx", "onnxruntime"):
        require(module, "onnx", "for int8")
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    reader = _Reader(ModelFile(source).names, batches)
    try:
        with _quiet(), tempfile.TemporaryDirectory(prefix="srinit-") as name:
            joined = Path(name) / "joined.onnx"
            quant_pre_process(str(source), str(joined), skip_symbolic_shape=True)
            quantize_static(
                str(joined),
                str(target),
                reader,
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                reduce_range=reduced_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
    except Exception as error:  # onnxruntime raises errors of every kind
        if is_out_of_memory(error):
            raise
        text = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{source.name} cannot be quantized: {text}") from error
    return reader.count


class _Reader:
    """Serves the inputs of batches by name, as onnxruntime's calibration asks for them."""

    def __init__(self, names: Sequence[str], batches: Iterable[tuple[Any, Any]]) -> None:
        self._names, self._batches, self.count = names, iter(batches), 0

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch; None at the end."""
        inputs = next(self._batches, (None, None))[0]
        if inputs is None:
            return None
        feeds = feeds_of(self._names, inputs)
        self.count += len(next(iter(feeds.values())))
        return feeds

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while (feeds := self.get_next()) is not None:
            yield feeds

    def __next__(self) -> dict[str, Any]:
        feeds = self.get_next()
        if feeds is None:
            raise StopIteration
        return feeds


def in_float(path: Path) -> tuple[str, ...]:
    """Return the weights of layers that a quantized file still computes in floating point."""
    import onnx

    graph = onnx.load(path).graph
    made = {output: node for node in graph.node for output in node.output}
    left = []
    for node in graph.node:
        if node.op_type not in WEIGHTED:
            continue
        sides = [made.get(name) for name in node.input[:2]]
        if any(side is None or side.op_type != "DequantizeLinear" for side in sides):
            left.append(node.input[1] if node.input[1] not in made else node.name)
    return tuple(left)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime's advice from the root logger, to which it would add a handler."""
    root, handler = logging.getLogger(), logging.NullHandler()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
