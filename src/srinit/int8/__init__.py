"""Eight-bit integers after pruning: by onnxruntime and by NNCF, measured beside the others."""

from srinit.int8.openvino import in_float_openvino, quantize_openvino
from srinit.int8.quantize import helps_int8, in_float, quantize
from srinit.int8.records import SCHEMA, Cell, Int8, chosen, failed, verdict

__all__ = [
    "SCHEMA",
    "Cell",
    "Int8",
    "chosen",
    "failed",
    "helps_int8",
    "in_float",
    "in_float_openvino",
    "quantize",
    "quantize_openvino",
    "verdict",
]
