"""Runs perturbed copies of a network fast: copies, folding, replay, weights of many draws."""

from srinit.engine.copies import (
    Precision,
    cheap_dtypes,
    cheaper_copy,
    faster_copy,
    has_fast_bfloat16,
    inputs_for,
    is_close,
    lighter_copy,
    own_copy,
    shared_copy,
)
from srinit.engine.costs import Costs, costs_of
from srinit.engine.evaluator import PerturbationEvaluator, eager
from srinit.engine.examples import Batch, Examples, open_examples, order_of
from srinit.engine.outcomes import BatchOutcomes, score_batch
from srinit.engine.perturb import Perturbation, Target
from srinit.engine.prepared import agrees
from srinit.engine.replay import Replayer

__all__ = [
    "Batch",
    "BatchOutcomes",
    "Costs",
    "Examples",
    "Perturbation",
    "PerturbationEvaluator",
    "Precision",
    "Replayer",
    "Target",
    "agrees",
    "cheap_dtypes",
    "cheaper_copy",
    "costs_of",
    "eager",
    "faster_copy",
    "has_fast_bfloat16",
    "inputs_for",
    "is_close",
    "lighter_copy",
    "open_examples",
    "order_of",
    "own_copy",
    "score_batch",
    "shared_copy",
]
