"""Eight-bit integers after pruning: by onnxruntime and by NNCF, measured beside the others."""

from srinit.int8.openvino import in_float_openvino, quantize_openvino
from srinit.int8.quantize import helps_int8, in_float, needs_reduced_range, quantize
from srinit.int8.records import SCHEMA, Cell, Int8, chosen, failed, verdict
from srinit.int8.served import Kind, Served, own_times

__all__ = [
    "SCHEMA",
    "Cell",
    "Int8",
    "Kind",
    "Served",
    "chosen",
    "failed",
    "helps_int8",
    "in_float",
    "in_float_openvino",
    "needs_reduced_range",
    "own_times",
    "quantize",
    "quantize_openvino",
    "verdict",
]
