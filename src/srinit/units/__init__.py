"""The units of a network: what may be removed, what is locked and why."""

from srinit.units.bypass import bypassed
from srinit.units.find import find_units
from srinit.units.patterns import covered, matching
from srinit.units.records import LockedUnit, Unit, UnitMap

__all__ = ["LockedUnit", "Unit", "UnitMap", "bypassed", "covered", "find_units", "matching"]
