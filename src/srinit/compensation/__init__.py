"""What makes up for a cut in closed form: realignment, recalibration, and the choice among them."""

from srinit.compensation.apply import compensate, compensated
from srinit.compensation.recalibrate import recalibrate
from srinit.compensation.records import Candidate, Choice, Compensation, LeftMap, SolvedMap
from srinit.compensation.walk import realign

__all__ = [
    "Candidate",
    "Choice",
    "Compensation",
    "LeftMap",
    "SolvedMap",
    "compensate",
    "compensated",
    "realign",
    "recalibrate",
]
