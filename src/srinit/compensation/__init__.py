"""What makes up for a cut in closed form: realignment, recalibration, and the choice among them."""

from srinit.compensation.apply import compensate, compensated
from srinit.compensation.recalibrate import recalibrate
from srinit.compensation.records import Candidate, Choice, Compensation
from srinit.realignment import LeftMap, SolvedMap, realign

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
