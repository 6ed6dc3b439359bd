"""The units of a network: what may be removed, what is locked and why."""

from srinit.units.find import find_units
from srinit.units.records import LockedUnit, Unit, UnitMap
from srinit.units.verify import bypassed

__all__ = ["LockedUnit", "Unit", "UnitMap", "bypassed", "find_units"]
