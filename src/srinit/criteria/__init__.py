"""Criteria: which units the network can best do without, by more than one way of asking."""

from srinit.criteria.options import Criterion, Options
from srinit.criteria.records import UnitScore, UnitScores
from srinit.criteria.score import CRITERIA, find_criterion, score_units, scores_of

__all__ = [
    "CRITERIA",
    "Criterion",
    "Options",
    "UnitScore",
    "UnitScores",
    "find_criterion",
    "score_units",
    "scores_of",
]
