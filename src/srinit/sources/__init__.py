"""Models, weights and data by prefixed names."""

from srinit.sources.augment import Augment
from srinit.sources.dataset import Batches, DataSet
from srinit.sources.fit import load_weights
from srinit.sources.functions import load_function
from srinit.sources.hugging_face import check_sizes, self_contained
from srinit.sources.models import load_model
from srinit.sources.overlap import check_overlap, describe
from srinit.sources.preprocess import Preprocess, preprocess_from
from srinit.sources.splits import SPLITS, limited, load_data, load_splits, split
from srinit.sources.weights import read_weights

__all__ = [
    "SPLITS",
    "Augment",
    "Batches",
    "DataSet",
    "Preprocess",
    "check_overlap",
    "check_sizes",
    "describe",
    "limited",
    "load_data",
    "load_function",
    "load_model",
    "load_splits",
    "load_weights",
    "preprocess_from",
    "read_weights",
    "self_contained",
    "split",
]
