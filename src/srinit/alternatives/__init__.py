"""Is pruning the right tool? What else would make a network faster, side by side with it."""

from srinit.alternatives.field import Field
from srinit.alternatives.records import SCHEMA, Alternative, Alternatives, Pick, front, picked

__all__ = ["SCHEMA", "Alternative", "Alternatives", "Field", "Pick", "front", "picked"]
