"""Eight-bit integers after pruning: quantized by onnxruntime, measured beside the others."""

from srinit.int8.quantize import OnnxNetwork, helps_int8, in_float, quantize
from srinit.int8.records import SCHEMA, Cell, Int8, failed, verdict

__all__ = [
    "SCHEMA",
    "Cell",
    "Int8",
    "OnnxNetwork",
    "failed",
    "helps_int8",
    "in_float",
    "quantize",
    "verdict",
]
