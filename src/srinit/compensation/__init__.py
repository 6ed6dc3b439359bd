"""What makes up for a cut in closed form: realignment, recalibration, and the choice among them."""

from srinit.compensation.apply import compensate, compensated
from srinit.compensation.realign import realign
from srinit.compensation.recalibrate import recalibrate
from srinit.compensation.records import Candidate, Choice, Compensation, LeftMap, SolvedMap

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
