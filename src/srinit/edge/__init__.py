"""What goes to the edge: a folder that answers without srinit and torch, checked before it goes."""

from srinit.edge.candidates import Network, write_candidates
from srinit.edge.examples import (
    chosen_positions,
    compared,
    confidence_of,
    file_logits,
    image_file,
    named,
    spread,
)
from srinit.edge.records import ANSWERS_WITHIN, INT8_WITHIN, Answers, Package, refused
from srinit.edge.times import DeviceTimes, read_times
from srinit.edge.write import Candidate, Example, Facts, write_package

__all__ = [
    "ANSWERS_WITHIN",
    "INT8_WITHIN",
    "Answers",
    "Candidate",
    "DeviceTimes",
    "Example",
    "Facts",
    "Network",
    "Package",
    "chosen_positions",
    "compared",
    "confidence_of",
    "file_logits",
    "image_file",
    "named",
    "read_times",
    "refused",
    "spread",
    "write_candidates",
    "write_package",
]
