"""Solves the linear maps behind a cut again, in the order of the computation (realignment)."""

from srinit.realignment.equations import LEAST_ROWS
from srinit.realignment.records import LeftMap, SolvedMap
from srinit.realignment.teacher import ROOM, Teacher
from srinit.realignment.walk import Update, realign

__all__ = ["LEAST_ROWS", "ROOM", "LeftMap", "SolvedMap", "Teacher", "Update", "realign"]
