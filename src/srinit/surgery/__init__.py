"""Surgery: removes units for good, on a copy."""

from srinit.surgery.config import why_not_saved
from srinit.surgery.expand import expand_back, kept_names
from srinit.surgery.rebuild import rebuild, stand_ins
from srinit.surgery.remove import apply_plan, remove_units, remove_with_origins
from srinit.units.bypass import bypassed

__all__ = [
    "apply_plan",
    "bypassed",
    "expand_back",
    "kept_names",
    "rebuild",
    "remove_units",
    "remove_with_origins",
    "stand_ins",
    "why_not_saved",
]
