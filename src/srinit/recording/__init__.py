"""One forward, recorded, and what can be read off it: operations, additions, mixed streams."""

from srinit.recording.joined import goes_around
from srinit.recording.mixes import mix, plain_weight, random_leaf
from srinit.recording.operations import (
    ADDITIONS,
    JOINS,
    MERGING,
    NORMS,
    SCALES,
    SHAPE_KEPT,
    VIEWS,
    short,
    stays,
)
from srinit.recording.residual_adds import POOLS, ResidualAdd, find_residual_adds
from srinit.recording.side_outputs import side_output_of
from srinit.recording.trace import Call, Op, Trace, Value, is_record, locate, record
from srinit.recording.trace_index import TraceIndex, within

__all__ = [
    "ADDITIONS",
    "JOINS",
    "MERGING",
    "NORMS",
    "POOLS",
    "SCALES",
    "SHAPE_KEPT",
    "VIEWS",
    "Call",
    "Op",
    "ResidualAdd",
    "Trace",
    "TraceIndex",
    "Value",
    "find_residual_adds",
    "goes_around",
    "is_record",
    "locate",
    "mix",
    "plain_weight",
    "random_leaf",
    "record",
    "short",
    "side_output_of",
    "stays",
    "within",
]
