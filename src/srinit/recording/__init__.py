"""One forward, recorded, and what can be read off it: operations, additions, mixed streams."""

from srinit.recording.facts import Facts, within
from srinit.recording.joined import goes_around
from srinit.recording.merges import POOLS, Merge, find_merges
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
from srinit.recording.taps import tap_of
from srinit.recording.trace import Call, Op, Trace, Value, is_record, locate, record

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
    "Facts",
    "Merge",
    "Op",
    "Trace",
    "Value",
    "find_merges",
    "goes_around",
    "is_record",
    "locate",
    "mix",
    "plain_weight",
    "random_leaf",
    "record",
    "short",
    "stays",
    "tap_of",
    "within",
]
