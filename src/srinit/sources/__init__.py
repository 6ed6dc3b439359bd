"""Models, weights and data by prefixed names."""

from srinit.sources.dataset import Batches, DataSet
from srinit.sources.models import load_function, load_model
from srinit.sources.preprocess import Augment, Preprocess
from srinit.sources.splits import check_overlap, limited, load_data, load_splits, split
from srinit.sources.weights import load_weights, read_weights

__all__ = [
    "Augment",
    "Batches",
    "DataSet",
    "Preprocess",
    "check_overlap",
    "limited",
    "load_data",
    "load_function",
    "load_model",
    "load_splits",
    "load_weights",
    "read_weights",
    "split",
]
