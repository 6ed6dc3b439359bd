"""Data by prefixed names."""

from srinit.sources.augment import Augment
from srinit.sources.dataset import Batches, DataSet
from srinit.sources.overlap import check_overlap, describe
from srinit.sources.preprocess import Preprocess, preprocess_from
from srinit.sources.splits import (
    SPLITS,
    Marks,
    limited,
    load_data,
    load_splits,
    marks_of,
    split,
    text_reading,
)
from srinit.texts import TextReading

__all__ = [
    "SPLITS",
    "Augment",
    "Batches",
    "DataSet",
    "Marks",
    "Preprocess",
    "TextReading",
    "check_overlap",
    "describe",
    "limited",
    "load_data",
    "load_splits",
    "marks_of",
    "preprocess_from",
    "split",
    "text_reading",
]
