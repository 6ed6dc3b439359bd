"""Networks and weights by prefixed names."""

from srinit.networks.detector import COLUMNS, Detector, OneImage, Pending
from srinit.networks.fit import load_weights
from srinit.networks.hugging_face import check_sizes, self_contained
from srinit.networks.hugging_face_config import decoded
from srinit.networks.hugging_face_gguf import gguf_file as packed_file
from srinit.networks.models import load_model
from srinit.networks.weights import read_weights

__all__ = [
    "COLUMNS",
    "Detector",
    "OneImage",
    "Pending",
    "check_sizes",
    "decoded",
    "load_model",
    "load_weights",
    "packed_file",
    "read_weights",
    "self_contained",
]
